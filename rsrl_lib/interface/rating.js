// Shows a photo, sends a key with the photo and the step that it was pressed at, and shows the next
// photo at once where it has come already. What Python answers is the truth.

const SILENCE = 6000; // milliseconds without an answer after which that is told
const FLASH = 350;

function element(parent, tag, name, text = "") {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.textContent = text;
  parent.append(made);
  return made;
}

function build(el, page) {
  const root = element(el, "div", "rsrl-rate");
  root.tabIndex = 0;
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", "Score photos by keys");
  root.classList.toggle("rsrl-is-page", page);
  // JupyterLab would take the digits for commands of its own.
  root.setAttribute("data-lm-suppress-shortcuts", "true");
  root.setAttribute("data-jp-suppress-context-menu", "true");
  const themed = document.body.dataset.jpThemeLight === "false";
  root.classList.toggle("rsrl-is-dark", themed && !page);

  const stage = element(root, "div", "rsrl-rate-stage");
  const top = element(stage, "div", "rsrl-rate-top");
  const progress = element(top, "span", "rsrl-rate-progress");
  const said = element(top, "span", "rsrl-rate-said");
  for (const live of [progress, said]) live.setAttribute("aria-live", "polite");
  const enough = element(top, "button", "", "Enough photos?");
  enough.title = "What could a network learn from the scores so far?";
  const bar = element(stage, "progress", "");
  bar.setAttribute("aria-label", "share of the answers that are given");
  const error = element(stage, "p", "rsrl-rate-error");
  error.setAttribute("role", "alert");
  const notes = element(stage, "div", "");

  const photo = element(stage, "div", "rsrl-rate-photo");
  const image = element(photo, "img", "");
  const done = element(photo, "div", "rsrl-rate-done");

  const bottom = element(stage, "div", "rsrl-rate-bottom");
  const back = element(bottom, "button", "rsrl-rate-back", "← Back");
  const scores = element(bottom, "div", "rsrl-rate-scores");
  const skip = element(bottom, "button", "rsrl-rate-skip", "Skip →");
  const hint = element(stage, "div", "rsrl-rate-hint");
  const found = element(root, "div", "rsrl-rate-enough");
  found.setAttribute("aria-live", "polite");
  for (const button of [enough, back, skip]) button.type = "button";
  return { root, progress, said, enough, bar, error, notes, photo, image, done, back, scores,
    skip, hint, found };
}

// The digit that was pressed, on any keyboard: with AZERTY it takes no shift, and the block of
// digits works without NumLock.
function digitOf(event) {
  const byPlace = /^(Digit|Numpad)([0-9])$/.exec(event.code);
  if (byPlace) return byPlace[2];
  return /^[0-9]$/.test(event.key) ? event.key : null;
}

function render({ model, el }) {
  const view = build(el, model.get("page"));
  let shown = { step: -1, photo: "", url: "" };
  let ahead = null; // the photo after this one
  let waits = false;
  let forced = -1;
  let silence = null;

  const state = () => model.get("state");
  const urlOf = (bytes) => URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));

  function display(next) {
    if (next.url !== shown.url) {
      const old = shown.url;
      if (next.url) view.image.src = next.url;
      if (old) URL.revokeObjectURL(old);
    }
    shown = next;
    waits = false;
    view.photo.classList.remove("rsrl-waits");
    view.image.alt = next.photo ? `Photo to be scored, answer ${state().answers + 1}` : "";
    view.image.hidden = !next.photo;
    view.done.hidden = Boolean(next.photo);
  }

  function takeAhead() {
    const next = model.get("next");
    if (ahead?.url && ahead.url !== shown.url) URL.revokeObjectURL(ahead.url);
    ahead = null;
    if (!next.photo) return;
    ahead = { step: next.step, photo: next.photo, url: urlOf(model.get("following")) };
    const early = new Image(); // decoded before it is shown
    early.src = ahead.url;
    early.decode().catch(() => {});
  }

  function send(kind, more = {}) {
    if (waits) return; // the next photo is not there yet: the key would be for one not seen
    model.send({ kind, photo: shown.photo, step: shown.step, ...more });
    if (!silence) silence = setTimeout(tellSilence, SILENCE);
    const next = shown.step + 1;
    if (kind === "rate" && ahead && ahead.step === next) {
      const at = ahead;
      ahead = null;
      display(at);
    } else {
      shown = { ...shown, step: next };
      waits = true;
      view.photo.classList.add("rsrl-waits");
    }
  }

  function tellSilence() {
    waits = true;
    view.error.hidden = false;
    view.error.textContent = "There is no answer to your last key. The computer is busy, or this " +
      "page's session has ended. Then load the page again, in JupyterLab run the cell again: " +
      "all keys before are kept.";
  }

  function rate(score) {
    if (waits || !shown.photo) return;
    const button = view.scores.querySelector(`[data-score="${score}"]`);
    button.classList.add("rsrl-given");
    setTimeout(() => button.classList.remove("rsrl-given"), FLASH);
    send("rate", { score });
  }

  function back() {
    if (state().canGoBack || shown.step > state().step) send("back");
  }

  function skip() {
    if (shown.photo) send("skip");
  }

  function listen(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const onButton = event.target.tagName === "BUTTON";
    if (onButton && [" ", "Enter"].includes(event.key)) return;
    const digit = digitOf(event);
    const score = digit === null ? undefined : state().keys[digit];
    const isBack = ["Backspace", "ArrowLeft"].includes(event.key) && digit === null;
    const isSkip = [" ", "ArrowRight"].includes(event.key) && digit === null;
    if (digit === null && !isBack && !isSkip) return;
    event.preventDefault();
    event.stopPropagation();
    if (event.repeat) return; // a key that is held is one key
    if (score !== undefined) rate(score);
    else if (digit !== null) view.said.textContent = `${digit} is no score here.`;
    else if (isBack) back();
    else skip();
  }

  function drawScores() {
    const { keys, counts } = state();
    const byScore = Object.entries(keys).sort((a, b) => a[1] - b[1]);
    if (view.scores.childElementCount !== byScore.length) {
      view.scores.replaceChildren();
      for (const [key, score] of byScore) {
        const button = element(view.scores, "button", "");
        button.type = "button";
        button.dataset.score = score;
        button.title = `key ${key}`;
        element(button, "small", "");
        element(button, "span", "rsrl-rate-bar");
        element(button, "b", "", String(score));
        button.addEventListener("click", () => act(() => rate(score)));
      }
    }
    const most = Math.max(1, ...counts);
    byScore.forEach(([, score], i) => {
      const button = view.scores.children[i];
      button.setAttribute("aria-label", `Score ${score}, given ${counts[i]} times`);
      button.children[0].textContent = counts[i] || "";
      button.children[1].style.height = `${(2.2 * counts[i]) / most}em`;
      button.disabled = !state().photo;
    });
  }

  function drawHint() {
    const { keys } = state();
    const names = Object.entries(keys).sort((a, b) => a[1] - b[1]).map(([key]) => key);
    const [low, high] = [names[0], names[names.length - 1]];
    const ten = keys["0"] === 10 ? " (0 is ten)" : "";
    view.hint.replaceChildren();
    if (!view.root.contains(document.activeElement)) {
      element(view.hint, "span", "rsrl-rate-keys", "Click here, then use the keys. ");
    }
    element(view.hint, "span", "", "Low is poor, high is good. The bars show how often you gave " +
      "each score. ");
    element(view.hint, "span", "rsrl-rate-keys",
      `Keys: ${low} to ${high}${ten} score, ← or Backspace takes back, → or Space skips.`);
  }

  function drawDone() {
    const { photo, finished } = state();
    view.done.replaceChildren();
    if (photo) return;
    element(view.done, "h2", "", "All photos are scored.");
    for (const sentence of finished.slice(0, -1)) element(view.done, "p", "", sentence);
    element(view.done, "code", "", finished[finished.length - 1]);
  }

  function take() {
    const now = state();
    clearTimeout(silence);
    silence = null;
    const isForced = now.forced !== forced;
    forced = now.forced;
    if (isForced || now.step >= shown.step) {
      const isNew = now.photo !== shown.photo || !shown.url;
      const bytes = model.get("picture");
      const url = now.photo && isNew ? urlOf(bytes) : now.photo ? shown.url : "";
      display({ step: now.step, photo: now.photo, url });
    } else {
      silence = setTimeout(tellSilence, SILENCE); // for the key after this one
    }
    const expected = now.photo ? Math.max(now.expected, now.answers + 1) : now.answers;
    const total = now.photo ? ` of about ${expected}` : "";
    view.progress.textContent = `${now.answers}${total} answers`;
    view.bar.max = Math.max(expected, 1);
    view.bar.value = now.answers;
    view.said.textContent = now.said;
    view.error.hidden = !now.error;
    view.error.textContent = now.error;
    view.notes.replaceChildren();
    for (const { said, reasons } of now.notes) {
      const note = element(view.notes, "details", "rsrl-rate-note");
      element(note, "summary", "", said);
      for (const reason of reasons) element(note, "p", "", reason);
    }
    view.back.disabled = !now.canGoBack;
    view.skip.disabled = !now.photo;
    drawScores();
    drawDone();
    drawHint();
  }

  function drawFound() {
    const asked = model.get("asked");
    view.found.replaceChildren();
    view.enough.disabled = Boolean(asked.busy);
    if (asked.busy) {
      element(view.found, "p", "", "A network's head learns from your scores. You can go on.");
      return;
    }
    for (const sentence of asked.told ?? []) element(view.found, "p", "", sentence);
    const curve = model.get("curve");
    if (asked.told && curve.byteLength) {
      const picture = element(view.found, "img", "");
      picture.src = URL.createObjectURL(new Blob([curve], { type: "image/png" }));
      picture.alt = "Learning curve: measures over the number of photos learned from";
    }
    if (asked.told) view.found.scrollIntoView({ block: "nearest" });
  }

  // A button that was clicked gives the keys back to the photo.
  function act(action) {
    action();
    view.root.focus({ preventScroll: true });
  }

  view.root.addEventListener("keydown", listen);
  view.root.addEventListener("focusin", drawHint);
  view.root.addEventListener("focusout", () => setTimeout(drawHint));
  view.photo.addEventListener("click", () => view.root.focus({ preventScroll: true }));
  view.back.addEventListener("click", () => act(back));
  view.skip.addEventListener("click", () => act(skip));
  view.enough.addEventListener("click", () => act(() => model.send({ kind: "enough" })));
  model.on("change:state", take);
  model.on("change:next", takeAhead);
  model.on("change:asked", drawFound);
  take();
  takeAhead();
  drawFound();
  requestAnimationFrame(() => view.root.focus({ preventScroll: true }));

  return () => {
    clearTimeout(silence);
    model.off("change:state", take);
    model.off("change:next", takeAhead);
    model.off("change:asked", drawFound);
    for (const url of [shown.url, ahead?.url]) if (url) URL.revokeObjectURL(url);
  };
}

export default { render };
