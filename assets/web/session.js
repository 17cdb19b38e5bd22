// A seat in a lobby, kept through lost connections: comes in, comes back, and says in a person's words why it ended.

import { canGoDirect } from "./direct.js";
import { thisVisit } from "./memory.js";
import { Peer, askForToken } from "./uhst.js";

/** The host greets a newcomer at once, or never. */
const WELCOME_MS = 5000;
/** The host sends a roster every second: after so much silence it is missed, as between native peers. */
const SILENCE_MS = 5000;
/** A direct path that is silent for so long is given up for a new one. */
const BROKEN_MS = 8000;
/** For so long a missed host is waited for, as between native peers. */
const PATIENCE_MS = 30_000;
/** Waits between attempts to come back; the last one repeats. */
const AGAIN_MS = [300, 700, 1500, 2500, 3500, 4500];

/** By this secret the host knows the page again after it was loaded anew: a peer of the original protocol has no key. */
function ticket() {
  let ticket = thisVisit.get("bevy_uhst ticket");
  if (!ticket) {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    ticket = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    thisVisit.set("bevy_uhst ticket", ticket);
  }
  return ticket;
}

export class Session {
  #relay;
  #code;
  #name;
  #path;
  #handlers;
  #peer = null;
  #me = null;
  #left = false;
  #heardAt = 0;
  /** Since when the host is missed. */
  #missedAt = null;
  /** Whether the page was out of sight since the last word. */
  #hidden = false;
  /** While the welcome is due. */
  #settle = null;
  #watch = setInterval(() => this.#tick(), 1000);
  #onhide = () => {
    this.#hidden = true;
    // Awake again: what came meanwhile needs a moment to get here.
    if (!document.hidden) this.#heardAt = Math.max(this.#heardAt, Date.now() - SILENCE_MS + 2000);
  };

  /**
   * `path` is `relay`, `direct`, or null for whichever works.
   * Handlers: `onword(word)`, `onstate("joining" | "in")`, `onmissed(seconds)` for how long the host is missed, or null
   * when it is back, `onend(sentence, wrongCode)`.
   */
  constructor({ relay, code, name, path }, handlers) {
    this.#relay = relay;
    this.#code = code;
    this.#name = name;
    this.#path = path;
    this.#handlers = handlers;
    document.addEventListener("visibilitychange", this.#onhide);
    handlers.onstate("joining");
    this.#enter().catch((error) => this.#end(error.kind));
  }

  /** How words travel: `relay`, `direct`, or null. */
  get path() {
    return this.#peer?.path ?? null;
  }

  say(word) {
    this.#peer?.say(JSON.stringify({ FromPlayer: word }));
  }

  /** Says where our figure is, which is worthless once there is a newer place. */
  move(x, y) {
    this.#peer?.sayNewest(JSON.stringify({ Position: { x, y } }));
  }

  leave() {
    this.#left = true;
    clearInterval(this.#watch);
    document.removeEventListener("visibilitychange", this.#onhide);
    this.#peer?.close();
    this.#peer = null;
  }

  async #enter() {
    const peer = await this.#connect();
    if (this.#left) return peer.close();
    this.#peer = peer;
    this.#me = null;
    this.#heardAt = Date.now();
    await new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
      setTimeout(() => reject({ kind: "not-admitted" }), WELCOME_MS);
      this.say({ word: "hello", name: this.#name, ticket: ticket() });
    }).finally(() => (this.#settle = null));
    this.#found();
    this.#handlers.onstate("in");
  }

  async #connect() {
    const handlers = { onword: (text) => this.#hear(text), onend: (kind) => this.#lost(kind) };
    const path = this.#path ?? (canGoDirect && !remembersRelay(this.#code) ? "direct" : "relay");
    try {
      return await Peer.connect(this.#relay, this.#code, path, handlers);
    } catch (error) {
      if (error.kind !== "no-direct" || this.#path || this.#left) throw error;
      rememberRelay(this.#code);
      return await Peer.connect(this.#relay, this.#code, "relay", handlers);
    }
  }

  #hear(text) {
    if (this.#left) return;
    this.#heardAt = Date.now();
    this.#hidden = document.hidden;
    if (!this.#settle) this.#found();
    const word = read(text);
    if (!word) return;
    if (word.word === "welcome") {
      this.#me = word.you;
      this.#settle?.resolve();
    }
    const missing = word.word === "roster" && !word.players.some((player) => player.id === this.#me);
    const gone = word.word === "gone" && word.id === this.#me;
    if (this.#me !== null && (gone || missing)) {
      // "Lost" and "left" are mistakes of the network, which coming back mends.
      return gone && word.how !== "was removed" ? this.#again("lost") : this.#end("removed");
    }
    this.#handlers.onword(word);
  }

  #lost(kind) {
    this.#peer = null;
    if (this.#left) return;
    if (this.#settle) this.#settle.reject({ kind });
    else if (kind === "closed") this.#closedByHost();
    else this.#again(kind);
  }

  /** The host closed our channel: either us alone, or its whole lobby. Coming back uninvited would be rude. */
  async #closedByHost() {
    await pause(700);
    const there = await askForToken(this.#relay, this.#code).then(() => true, () => false);
    if (!this.#left) this.#end(there ? "removed" : "host-closed");
  }

  async #again(kind) {
    this.#peer?.close();
    this.#peer = null;
    this.#miss();
    let hostless = kind === "host-closed" ? 1 : 0;
    for (let attempt = 0; this.#missedFor() < PATIENCE_MS; attempt++) {
      // A host that the relay does not know any more seldom comes back; a lost network does.
      if (hostless > 3) break;
      await pause(AGAIN_MS[Math.min(attempt, AGAIN_MS.length - 1)]);
      if (this.#left) return;
      try {
        return await this.#enter();
      } catch (error) {
        this.#peer?.close();
        this.#peer = null;
        if (error.kind === "no-host") hostless += 1;
        kind = hostless ? "host-closed" : error.kind;
      }
    }
    this.#end(kind);
  }

  #miss() {
    this.#missedAt ??= Date.now();
    this.#handlers.onmissed(Math.floor(this.#missedFor() / 1000));
  }

  #found() {
    if (this.#missedAt === null) return;
    this.#missedAt = null;
    this.#handlers.onmissed(null);
  }

  #missedFor() {
    return this.#missedAt === null ? 0 : Date.now() - this.#missedAt;
  }

  /** A relay's stream tells neither of a dead network nor of a host that no longer talks to us. */
  #tick() {
    if (this.#missedAt !== null) this.#miss();
    if (!this.#peer || this.#settle || document.hidden) return;
    const silence = Date.now() - this.#heardAt;
    if (silence < SILENCE_MS) return;
    this.#miss();
    // A phone that slept, or a direct path that broke without a word, is not the host's doing.
    if (this.#hidden || (this.path === "direct" && silence >= BROKEN_MS)) this.#again("lost");
    else if (this.#missedFor() >= PATIENCE_MS) this.#end("silent");
  }

  #end(kind) {
    if (this.#left) return;
    this.leave();
    this.#handlers.onend(inWords(kind, this.#code), kind === "no-host");
  }
}

function inWords(kind, code) {
  switch (kind) {
    case "no-host":
      return `No game has the code ${code}. Check it, or ask the host for the link.`;
    case "not-admitted":
      return "The host did not let you in. The lobby may be full, or ask for a password.";
    case "removed":
      return "The host removed you from the lobby.";
    case "host-closed":
      return "The host closed the lobby.";
    case "no-direct":
      return "There is no direct way to the host from here.";
    case "unreachable":
    case "lost":
      return "The host cannot be reached. Is its game still open, and are you on the same network?";
    default:
      return "The host stopped answering.";
  }
}

// Trying the direct path where there is none costs seconds: not twice in a visit.
const key = (code) => `uhst-relay-only:${code}`;
const remembersRelay = (code) => thisVisit.get(key(code)) !== null;
const rememberRelay = (code) => thisVisit.set(key(code), "");

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The word in a text of the host: a typed message of the lobby as JSON, or null. */
function read(text) {
  try {
    const { FromHost, Positions } = JSON.parse(text);
    return FromHost ?? (Positions ? { word: "positions", ...Positions } : null);
  } catch {
    return null;
  }
}
