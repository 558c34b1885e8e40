// Runs in the browser alone: lays the chosen map over its image as far as the slider says.
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
