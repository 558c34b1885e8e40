"""Damage for files of any kind, drawn from a seed: the same seed gives the same bytes."""

import ast
import csv
import io
import json
import random
from collections.abc import Callable

__all__ = ['KINDS', 'mangled']

Mangle = Callable[[random.Random, bytes], bytes]

# What a cell, a JSON value or a setting may hold that nobody expected.
CELLS = (
    *('', ' ', 'nan', 'NaN', 'inf', '-inf', 'Infinity', '-1', '2', '0.5', '1e999', '-1e999', '1e-400', '-0', '1_0'),
    *('0x10', '1,5', '1;0', 'True', 'None', 'null', 'unknown', '٣', '½', '１', '"', "'", '""', "'1", '=1+1', '@x'),
    *('../../x', '/etc/passwd', '..', 'C:\\x', '~', 'a/b', '\0', 'a\0b', 'a\nb', 'a\r\nb', 'a\tb', '\u2028', '\ufeff1'),
    *('\u200b', '\ud800', 'é', '日本', '9' * 400, '9' * 5000, '1' + '0' * 30, 'x' * 300, 'x' * 200_000),
)
VALUES: tuple = (
    *(None, True, False, 0, -1, 1, 3, 2**63, 10**400, 0.5, -0.5, 1e308, float('nan'), float('inf'), float('-inf')),
    *('', 'x', '0', '../x', '/etc/passwd', 'a\0b', '\ud800', 'x' * 300, [], {}, [1], [[]], {'x': 1}, [None], ['x']),
)
SETTINGS = (
    *('None', 'True', '0', '-1', '1', '7', '10**400', '0.5', '-0.5', '1e308', "float('nan')", "float('inf')", "''"),
    *("'x'", "b'x'", "'../x'", '[]', '{}', '()', '[1]', '[[]]', "['x']", "{'x': 1}", '[None]', '{1: 2}', '{1, 2}'),
    *('...', 'print', 'int', '1j', 'dict(type=1)', "dict(type='')", "dict(type='nope')", "dict(type='Adam')"),
    *('nope', '1 / 0', 'lambda: 0', 'object()', "'é' * 300", '[' * 60 + ']' * 60, 'range(3)', "{'type': []}"),
)
CODINGS = ('utf-8-sig', 'utf-16', 'utf-16-le', 'utf-16-be', 'utf-32', 'utf-7', 'cp037')
MARKS = (b'\xef\xbb\xbf', b'\xff\xfe', b'\xfe\xff', b'\0', b'\xff', b'\x80', b'\x1a')


def truncate(draw: random.Random, data: bytes) -> bytes:
    """Keep a beginning."""
    return data[: draw.randrange(len(data) + 1)]


def flip(draw: random.Random, data: bytes) -> bytes:
    """Flip up to twenty bits."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 5, 20)) if data else 0):
        changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def overwrite(draw: random.Random, data: bytes) -> bytes:
    """Fill a stretch with noughts, ones, letters or noise."""
    start, length = draw.randrange(len(data) + 1), draw.choice((1, 2, 4, 16, 200))
    fill = draw.choice((bytes(length), b'\xff' * length, b'A' * length, draw.randbytes(length)))
    return data[:start] + fill + data[start + length :]


def cut(draw: random.Random, data: bytes) -> bytes:
    """Leave a stretch out."""
    start = draw.randrange(len(data) + 1)
    return data[:start] + data[start + draw.choice((1, 2, 4, 16, 200)) :]


def splice(draw: random.Random, data: bytes) -> bytes:
    """Repeat a stretch somewhere else."""
    start, to = draw.randrange(len(data) + 1), draw.randrange(len(data) + 1)
    return data[:to] + data[start : start + draw.choice((1, 8, 64, 1000))] + data[to:]


def mark(draw: random.Random, data: bytes) -> bytes:
    """Put a byte order mark or an odd byte in front, behind or in the middle."""
    at = draw.choice((0, len(data), draw.randrange(len(data) + 1)))
    return data[:at] + draw.choice(MARKS) + data[at:]


def replace_all(draw: random.Random, data: bytes) -> bytes:
    """Something else altogether."""
    return draw.choice(
        (b'', b'\n', b'\0' * 100, draw.randbytes(500), b'\xff\xfe', data * 2, b'PK\x03\x04', b'{}', b'"')
    )


def recode(draw: random.Random, data: bytes) -> bytes:
    """The same text in another coding, sometimes with a letter that it needs."""
    text = data.decode('utf-8', 'surrogateescape')
    if draw.random() < 0.3:
        return (text[: len(text) // 2] + 'é' + text[len(text) // 2 :]).encode('latin-1', 'replace')
    return text.encode(draw.choice(CODINGS), 'replace')


def renew_lines(draw: random.Random, data: bytes) -> bytes:
    """Other line ends, or none at the end of the text."""
    return draw.choice((data.replace(b'\n', b'\r\n'), data.replace(b'\n', b'\r'), data.rstrip(), data + b'\n\n'))


def insert_sign(draw: random.Random, data: bytes) -> bytes:
    """One sign that means something to a parser."""
    at = draw.randrange(len(data) + 1)
    signs = (b'"', b"'", b',', b';', b'\t', b'\n', b'\\', b'#', b'(', b'[', b'{', b'}', b'=', b'\0', b'\xc2\xa0', b'%')
    return data[:at] + draw.choice(signs) + data[at:]


def mangle_table(draw: random.Random, data: bytes) -> bytes:
    """Drop, repeat, swap or rename columns and rows, or put a strange cell in."""
    rows = [*csv.reader(io.StringIO(data.decode()))]
    head, body = rows[0], rows[1:]
    for _ in range(draw.choice((1, 1, 1, 2))):
        column, row = draw.randrange(len(head)), draw.choice(body)
        what = draw.randrange(12)
        if what == 0:
            rows = [[cell for place, cell in enumerate(cells) if place != column] for cells in rows]
        elif what == 1:
            rows = [[*cells, cells[column] if column < len(cells) else ''] for cells in rows]
        elif what == 2:
            head[column] = draw.choice((*CELLS[:30], *head, head[column].upper(), f' {head[column]} '))
        elif what == 3:
            rows.insert(draw.randrange(len(rows) + 1), draw.choice(rows))
        elif what == 4:
            del rows[draw.randrange(len(rows))]
        elif what == 5:
            row[:] = draw.choice((row[:-1], [*row, ''], [*row, draw.choice(CELLS)], [], [''], ['x']))
        elif what == 6:
            draw.shuffle(head)
        elif what == 7:
            order = draw.sample(range(len(head)), len(head))
            rows = [[cells[place] if place < len(cells) else '' for place in order] for cells in rows]
        elif column < len(row):
            row[column] = draw.choice(CELLS)
        head, body = (rows or [['x']])[0] or ['x'], rows[1:] or [['x']]
    file = io.StringIO()
    style = draw.choice((csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    writer = csv.writer(file, quoting=style, delimiter=draw.choice(',,,,,,;\t'), lineterminator='\n')
    writer.writerows(rows)
    return file.getvalue().encode('utf-8', 'surrogatepass')


def mangle_json(draw: random.Random, data: bytes) -> bytes:
    """Put strange values in, leave keys out, name them otherwise or twice, or nest without end."""
    value = json.loads(data)
    what = draw.randrange(8)
    if what == 0:
        return json.dumps(draw.choice((*VALUES, [value], {'x': value}))).encode()
    if what == 1:
        depth = draw.choice((50, 5_000, 200_000))
        return draw.choice((b'[' * depth + b']' * depth, b'{"a":' * depth + b'1' + b'}' * depth))
    places = [*_places(value)]
    for _ in range(draw.choice((1, 1, 2, 4)) if places else 0):
        holder, key = draw.choice(places)
        if isinstance(holder, dict) and key in holder and what == 2:
            del holder[key]
        elif isinstance(holder, dict) and key in holder and what == 3:
            holder[draw.choice((key.upper(), f'{key} ', '', 'x'))] = holder.pop(key)
        elif isinstance(holder, dict) or key < len(holder):
            holder[key] = draw.choice(VALUES)
    text = json.dumps(value)
    if what == 4 and text.startswith('{"'):  # a key twice
        text = f'{{"{draw.choice([*value] or ["x"])}": {json.dumps(draw.choice(VALUES))}, {text[1:]}'
    return text.encode()


def _places(value: object):
    """Everything in nested lists and dicts, as a holder and a key."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield value, key
        yield from _places(inner)


def mangle_python(draw: random.Random, data: bytes) -> bytes:
    """Put strange values in a program's assignments, leave some out, or name them otherwise."""
    tree = ast.parse(data)
    if draw.random() < 0.05:
        depth = draw.choice((80, 300, 30_000))
        return data + draw.choice((b'\nx = ' + b'(' * depth + b')' * depth, b'\nx = ' + b'-' * depth + b'1'))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.keyword | ast.Assign | ast.Dict | ast.List)]
    for _ in range(draw.choice((1, 1, 2, 4))):
        node, what = draw.choice(nodes), draw.randrange(6)
        if isinstance(node, ast.keyword):
            if what == 0 and node.arg:
                node.arg = draw.choice((node.arg[:-1] or 'x', node.arg + 'x', node.arg.upper(), 'type', 'x'))
            else:
                node.value = ast.parse(draw.choice(SETTINGS), mode='eval').body
        elif isinstance(node, ast.Assign):
            if what == 0 and node in tree.body and len(tree.body) > 1:
                tree.body.remove(node)
            elif what == 1 and isinstance(node.targets[0], ast.Name):
                node.targets[0].id += 'x'
            else:
                node.value = ast.parse(draw.choice(SETTINGS), mode='eval').body
        elif isinstance(node, ast.Dict) and node.values:
            node.values[draw.randrange(len(node.values))] = ast.parse(draw.choice(SETTINGS), mode='eval').body
        elif isinstance(node, ast.List) and node.elts:
            node.elts[draw.randrange(len(node.elts))] = ast.parse(draw.choice(SETTINGS), mode='eval').body
    return ast.unparse(ast.fix_missing_locations(tree)).encode('utf-8', 'surrogateescape')


BYTES: tuple[Mangle, ...] = (truncate, flip, flip, overwrite, cut, splice, mark, replace_all)
TEXT: tuple[Mangle, ...] = (truncate, flip, overwrite, cut, splice, mark, replace_all, recode, renew_lines, insert_sign)
KINDS: dict[str, tuple[Mangle, ...]] = {
    'bytes': BYTES,
    'table': (*TEXT, *[mangle_table] * len(TEXT)),
    'json': (*TEXT, *[mangle_json] * len(TEXT)),
    'python': (*TEXT[::2], *[mangle_python] * (2 * len(TEXT))),
}


def mangled(kind: str, data: bytes, seed: int | str) -> bytes:
    """``data`` with the damage that ``seed`` draws among those for its kind; mostly one, sometimes two."""
    draw = random.Random(seed)
    damage = draw.choice(KINDS[kind])(draw, data)
    return draw.choice(BYTES)(draw, damage) if draw.random() < 0.1 else damage
