// Counts the videos that this browser can play, and says so where it cannot play one.
const root = document.documentElement;
const videos = [...document.querySelectorAll("video")];
let playable = 0;
const tell = () => { root.dataset.videos = `${playable}/${videos.length}`; };
const count = () => { playable += 1; tell(); };
const excuse = (video) => { video.parentElement.querySelector(".unplayable").hidden = false; };
for (const video of videos) {
  if (video.error) excuse(video);
  else if (video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA) count();
  else {
    video.addEventListener("loadeddata", count, { once: true });
    video.addEventListener("error", () => excuse(video), { once: true });
  }
}
tell();
