// Runs in the browser alone: lays the chosen map over its image as far as the slider says, hands a clicked sample to
// the place for images as if it had been dropped there, and tells a screen reader when an answer has come.
element.addEventListener('input', (event) => {
  const image = event.target.closest('.image');
  if (!image) return;
  const slider = image.querySelector('input[type=range]');
  const chosen = image.querySelector('input[type=radio]:checked');
  const outline = image.querySelector('.with-outline');
  if (event.target.type === 'radio' && slider.value === '0') slider.value = 60;
  for (const map of image.querySelectorAll('.map'))
    map.style.opacity = map.dataset.map === chosen.value ? slider.value / 100 : 0;
  for (const legend of image.querySelectorAll('.legend')) legend.hidden = legend.dataset.map !== chosen.value;
  if (outline) image.querySelector('.outline').style.display = outline.checked ? '' : 'none';
});

document.addEventListener('click', (event) => {
  const sample = event.target.closest('.mmskin-samples .sample');
  const input = document.querySelector('#mmskin-images input[type=file]');
  if (!sample || !input) return;
  const data = atob(sample.querySelector('img').src.split(',')[1]);
  const files = new DataTransfer();
  files.items.add(new File([Uint8Array.from(data, (byte) => byte.charCodeAt(0))], sample.dataset.name, {type: 'image/jpeg'}));
  input.files = files.files;
  input.dispatchEvent(new Event('change', {bubbles: true}));
});

const status = document.createElement('p');
status.className = 'mmskin-status';
status.setAttribute('role', 'status');
document.body.append(status);
watch('value', () => {
  const answer = element.querySelector('.mmskin-answer');
  if (!answer) return;
  status.textContent = answer.dataset.said;
  document.querySelector('.mmskin-samples').open = false;
});
