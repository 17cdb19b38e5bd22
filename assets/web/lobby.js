// The lobby's view: who is here, the chat, and "I am ready".

const find = (selector) => document.querySelector(`.lobby ${selector}`);

export class LobbyView {
  #say;
  #linesShown = 0;
  #ready = false;

  constructor(say) {
    this.#say = say;
    find("[data-action=ready]").addEventListener("click", () => say({ word: "ready", ready: !this.#ready }));
    find("[data-form=chat]").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
  }

  clear() {
    find("[data-chat]").replaceChildren();
    find("[data-players]").replaceChildren();
    find("[data-field=chat]").value = "";
    this.#linesShown = 0;
  }

  draw(table) {
    setText("[data-headline]", table.host ? `${table.host.name}’s lobby` : "Lobby");
    setText("[data-count]", table.max ? `${table.players.length} of ${table.max}` : "");
    setText("[data-seats]", openSeats(table.max - table.players.length));
    setText("[data-hint]", whatWeWaitFor(table));
    this.#drawReady(table.myself?.ready ?? false);
    drawPlayers(table);
    drawResult(table.result);
    this.#drawChat(table.chat);
  }

  #drawReady(ready) {
    this.#ready = ready;
    const button = find("[data-action=ready]");
    button.setAttribute("aria-pressed", ready);
    setText("[data-action=ready]", ready ? "Ready – tap to change" : "I am ready");
  }

  #drawChat(chat) {
    const lines = find("[data-chat]");
    for (; this.#linesShown < chat.length; this.#linesShown++) lines.append(chatLine(chat[this.#linesShown]));
  }

  #send() {
    const field = find("[data-field=chat]");
    const text = field.value.trim();
    if (text) this.#say({ word: "chat", text });
    field.value = "";
  }
}

/** Keeps the rows there are, so that a screen reader or a finger on one is not disturbed every second. */
function drawPlayers({ players, me }) {
  const list = find("[data-players]");
  while (list.children.length > players.length) list.lastChild.remove();
  players.forEach((player, at) => {
    const row = list.children[at] ?? list.appendChild(newRow());
    row.dataset.player = player.id;
    row.dataset.ready = player.ready;
    row.dataset.you = player.id === me;
    row.dataset.away = player.away != null;
    row.querySelector(".figure").dataset.colour = player.colour;
    const texts = { ".name": player.name, ".tag": player.id === me ? "you" : "", ".connection": connection(player) };
    texts[".pill"] = player.ready ? "Ready" : "Not ready";
    for (const [part, text] of Object.entries(texts)) setText(part, text, row);
  });
}

function newRow() {
  const row = document.createElement("li");
  const who = element("div", "who", [element("span", "name"), element("span", "tag"), element("span", "connection")]);
  const figure = element("i", "figure");
  figure.setAttribute("aria-hidden", "true");
  row.append(figure, who, element("span", "pill"));
  return row;
}

function drawResult(result) {
  find("[data-result]").hidden = !result;
  if (!result) return;
  find("[data-result] .figure").hidden = !result.name;
  find("[data-result] .figure").dataset.colour = result.colour;
  const sparks = result.score === 1 ? "1 spark" : `${result.score} sparks`;
  const who = result.me ? "You" : result.name;
  setText("[data-result] span", result.name ? `${who} won the round with ${sparks}` : "The round ended without a winner");
}

function chatLine({ from, text }) {
  if (!from) return element("p", "news", [text]);
  const name = element("b", "author", [from.name]);
  name.dataset.colour = from.colour;
  const line = element("p", "line", [name, element("span", "text", [text])]);
  line.dataset.mine = from.me;
  return line;
}

const SEALS = { open: "not sealed", sealed: "sealed", verified: "verified" };

function connection({ way, ping, away, seal }) {
  if (away != null) return `Reconnecting… ${away} s`;
  if (way === "host") return "Host";
  const words = way === "direct" ? "Direct" : "Over the relay";
  const time = ping === 0 ? "under 1 ms" : ping && `${ping} ms`;
  return [words, time, SEALS[seal]].filter(Boolean).join(" · ");
}

function openSeats(count) {
  if (count <= 0) return "";
  return count === 1 ? "1 open seat" : `${count} open seats`;
}

function whatWeWaitFor({ players, me }) {
  if (players.length < 2) return "A round needs two players.";
  const waiting = players.filter((player) => !player.ready);
  if (waiting.length === 0) return "Everyone is ready. The host starts the round.";
  if (waiting.length > 3) return `Waiting for ${waiting.length} players.`;
  const names = waiting.map((player) => (player.id === me ? "you" : player.name));
  const last = names.pop();
  return names.length ? `Waiting for ${names.join(", ")} and ${last}.` : `Waiting for ${last}.`;
}

function element(tag, className, children = []) {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...children);
  return made;
}

function setText(selector, text, parent = document.querySelector(".lobby")) {
  const target = parent.querySelector(selector);
  if (target.textContent !== text) target.textContent = text;
}
