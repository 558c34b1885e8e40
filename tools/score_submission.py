"""Score a submission to the ISIC-2017 challenge: python tools/score_submission.py submission data/isic2017."""

import argparse

from mmskin.evaluation.submission_scores import score_submission, scores_tables


def main() -> None:
    """Print the official table of each part that the submission has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('submission', help='folder with Part1/<image id>_segmentation.png, Part3.csv, or both')
    parser.add_argument('data_root', help='folder with the ground truth in the official names')
    parser.add_argument('--split', choices=['train', 'val', 'test'], default='test')
    args = parser.parse_args()
    print(scores_tables(score_submission(args.submission, args.data_root, args.split)))


if __name__ == '__main__':
    main()
