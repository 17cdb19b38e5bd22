// The page: shows one view at a time and hands words between the session, the table and the views.

import { ArenaView } from "./arena.js";
import { LobbyView } from "./lobby.js";
import { always } from "./memory.js";
import { Session } from "./session.js";
import { Table } from "./table.js";

const find = (selector) => document.querySelector(selector);
const relay = location.origin + location.pathname;
const NAME = "uhst-name";

let table = new Table();
let session = null;

const say = (word) => session?.say(word);
const lobby = new LobbyView(say);
const arena = new ArenaView((x, y) => session?.move(x, y));

/** The code is what stands behind the # of the link, up to the ~ before the key of the host, which this page cannot check. */
function codeOfLink() {
  const [code] = location.hash.slice(1).split("~");
  try {
    return decodeURIComponent(code);
  } catch {
    return code;
  }
}

function show(page) {
  if (document.body.dataset.page === page) return;
  document.body.dataset.page = page;
  find("[data-toasts]").replaceChildren();
  arena.run(page === "arena" ? table : null, session?.path);
  // Puts keyboards away, and tells a screen reader where it is.
  find(`main.${page}`).focus({ preventScroll: true });
}

function showJoinPage(notice, wrongCode = false) {
  const code = codeOfLink();
  const asked = !code || wrongCode;
  find("[data-code]").textContent = code;
  find("[data-field=code]").value = code;
  find("[data-code-shown]").hidden = asked;
  find("[data-code-asked]").hidden = !asked;
  find("[data-notice]").textContent = notice ?? "";
  find("[data-notice]").hidden = !notice;
  find("[data-again]").hidden = true;
  delete document.body.dataset.path;
  show("join");
}

function join(code, name) {
  table = new Table();
  lobby.clear();
  const path = new URLSearchParams(location.search).get("path");
  session = new Session({ relay, code, name, path }, { onword, onstate, onmissed, onend });
}

function leave() {
  session?.leave();
  session = null;
  showJoinPage();
}

function onstate(state) {
  if (state === "joining") show("joining");
  if (state === "in") document.body.dataset.path = session.path;
}

function onmissed(seconds) {
  find("[data-again]").hidden = seconds === null;
  // Only the first words are announced to a screen reader: the seconds would be read out each second.
  find("[data-again-seconds]").textContent = ` ${seconds ?? 0} s`;
}

function onend(sentence, wrongCode) {
  session = null;
  showJoinPage(sentence, wrongCode);
}

function onword(word) {
  for (const news of table.apply(word)) {
    if (["caught", "joined", "gone"].includes(news.kind) && table.playing) toast(news.text);
    if (news.me) navigator.vibrate?.(25);
    if (news.kind === "entered" || news.kind === "finished") show("lobby");
    if (news.kind === "started") {
      // A round may begin anew while its page still shows, after a lost connection.
      show("lobby");
      show("arena");
    }
  }
  if (word.word !== "positions") {
    lobby.draw(table);
    arena.drawHead();
  }
}

function toast(text) {
  const note = document.createElement("p");
  note.textContent = text;
  find("[data-toasts]").append(note);
  setTimeout(() => note.remove(), 2500);
}

find("[data-form=join]").addEventListener("submit", (event) => {
  event.preventDefault();
  const code = find("[data-field=code]").value.trim();
  if (!code) return showJoinPage("Enter the code that the host shows.");
  if (code !== codeOfLink()) history.replaceState(null, "", `#${encodeURIComponent(code)}`);
  const name = find("[data-field=name]").value.trim() || "Player";
  always.set(NAME, name);
  join(code, name);
});

for (const button of document.querySelectorAll("[data-action=leave], [data-action=cancel]")) {
  button.addEventListener("click", leave);
}

find("[data-field=name]").value = always.get(NAME) ?? "";
addEventListener("hashchange", leave);
// Closing the page closes the stream, which is how the host learns of it. A page kept for "back" must do it itself.
addEventListener("pagehide", () => session && leave());
showJoinPage();
