"use strict";
// Each story (demonstration, trial, retrial) plays in sequence, one story at a time: the first that is well in view.
(() => {
  const HOLD = 1300;  // ms that the end of an act, and with it the answer, stays; the last one twice as long
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const pause = document.getElementById("pause");
  const stories = [...document.querySelectorAll(".story")].map(element => ({
    element,
    acts: [...element.querySelectorAll(".act")],
    buttons: [...element.querySelectorAll(".chapter")],
    now: 0,
    timer: 0,
  }));
  const seen = new Set();
  let paused = still.matches, playing = null;
  document.documentElement.classList.add("js");

  const video = (story, number) => story.acts[number].querySelector("video");
  const show = (story, number) => {
    story.now = number;
    story.acts.forEach((act, i) => act.classList.toggle("on", i === number));
    story.buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(i === number)));
  };
  const stop = story => {
    clearTimeout(story.timer);
    story.acts.forEach((_, i) => video(story, i)?.pause());
  };
  const begin = (story, number) => {
    stop(story);
    if (number === 0) story.acts.forEach((act, i) => {
      act.classList.remove("told");
      if (i && video(story, i)) video(story, i).currentTime = 0;
    });
    show(story, number);
    story.element.classList.add("playing");
    const clip = video(story, number);
    if (!clip) return told(story);
    clip.currentTime = 0;
    clip.play().catch(() => {});
  };
  const told = story => {
    story.acts[story.now].classList.add("told");
    const next = (story.now + 1) % story.acts.length;
    story.timer = setTimeout(begin, next ? HOLD : 2 * HOLD, story, next);
  };
  const settle = () => {
    const next = paused ? null : stories.find(story => seen.has(story.element) && !story.element.hidden) ?? null;
    if (next !== playing) {
      if (playing) stop(playing);
      playing = next;
      if (playing) begin(playing, 0);
    }
    if (pause) {
      pause.textContent = paused ? "Play clips" : "Pause clips";
      pause.setAttribute("aria-pressed", String(paused));
    }
  };

  for (const story of stories) {
    show(story, 0);
    story.element.querySelector(".chapters").hidden = false;
    story.acts.forEach((_, i) => {
      const clip = video(story, i);
      if (!clip) return;
      clip.controls = false;  // without scripts the clips keep their controls
      clip.addEventListener("ended", () => told(story));
      clip.addEventListener("click", () => clip.paused ? clip.play().catch(() => {}) : clip.pause());
    });
    story.buttons.forEach((button, i) => button.addEventListener("click", () => {
      if (playing && playing !== story) stop(playing);
      playing = story;
      begin(story, i);
    }));
  }
  const watcher = new IntersectionObserver(entries => {
    for (const { target, isIntersecting } of entries) seen[isIntersecting ? "add" : "delete"](target);
    settle();
  }, { threshold: 0.5 });
  stories.forEach(story => watcher.observe(story.element));
  pause?.addEventListener("click", () => { paused = !paused; settle(); });
  still.addEventListener("change", () => { paused = still.matches; settle(); });
  settle();

  const filters = [...document.querySelectorAll("[data-filter]")];
  for (const filter of filters) filter.addEventListener("click", () => {
    for (const other of filters) other.setAttribute("aria-pressed", String(other === filter));
    for (const { element } of stories.slice(1))
      element.hidden = filter.dataset.filter !== "" && element.dataset.family !== filter.dataset.filter;
    settle();
  });
})();
