// A peer of a UHST host: words go to the host and come from it over the relay, or over a data channel.
// Which of the two is settled before the first word, because a host goes by what it hears first.

import { Direct } from "./direct.js";
import { Outbox } from "./outbox.js";

/**
 * Why there is no connection, or none any more. `kind` is one of
 * `no-host` (nobody hosts under this id), `unreachable` (no relay answered), `no-direct` (no data channel came about),
 * `host-closed` (the relay says the host is gone), `closed` (the host ended it) and `lost` (the network did).
 */
export class PeerError extends Error {
  constructor(kind) {
    super(kind);
    this.kind = kind;
  }
}

/** Asks the relay for a token, which also tells whether anybody hosts under this id. */
export async function askForToken(relay, id) {
  const query = new URLSearchParams({ action: "join", hostId: id });
  const answer = await fetch(`${relay}?${query}`, { method: "POST", signal: AbortSignal.timeout(6000) }).catch(() => null);
  if (answer?.status === 400) throw new PeerError("no-host");
  const reply = answer?.ok ? await answer.json().catch(() => null) : null;
  if (!reply?.clientToken) throw new PeerError("unreachable");
  return reply.clientToken;
}

export class Peer {
  #relay;
  #path;
  #handlers;
  #settle;
  #outbox = null;
  #stream = null;
  #direct = null;
  #over = false;

  /**
   * Connects on the path `relay` or `direct`. Resolves once words can be said.
   * `handlers.onword(text)` gets what the host says, `handlers.onend(kind)` why it ended, once and not after `close()`.
   */
  static connect(relay, id, path, handlers) {
    return new Promise((resolve, reject) => new Peer(relay, path, handlers, { resolve, reject }).#start(id));
  }

  constructor(relay, path, handlers, settle) {
    this.#relay = relay;
    this.#path = path;
    this.#handlers = handlers;
    this.#settle = settle;
  }

  /** `relay` or `direct`. */
  get path() {
    return this.#path;
  }

  /** Every text arrives, in order, unless the connection ends. */
  say(text) {
    if (this.#direct) this.#direct.say(text);
    else this.#outbox.put(envelope(text));
  }

  /** Of these only the newest counts: one that is still waiting makes way. */
  sayNewest(text) {
    if (this.#direct) this.#direct.sayUnlessBusy(text);
    else this.#outbox.putNewest(envelope(text));
  }

  /** The relay tells the host, by the closed stream. */
  close() {
    this.#over = true;
    this.#direct?.close();
    this.#outbox?.close();
    this.#stream?.close();
  }

  async #start(id) {
    try {
      const token = await askForToken(this.#relay, id);
      const url = `${this.#relay}?${new URLSearchParams({ token })}`;
      this.#outbox = new Outbox(url, () => this.#fail("lost"));
      // The stream stays open beside a data channel: some hosts take its end for ours.
      this.#stream = this.#listen(url);
    } catch (error) {
      this.#end(error.kind ?? "unreachable");
    }
  }

  #listen(url) {
    const stream = new EventSource(url);
    stream.onopen = () => this.#settle && this.#listening();
    stream.onerror = () => this.#fail(this.#settle ? "unreachable" : "lost");
    stream.onmessage = (event) => this.#hear(JSON.parse(event.data).body);
    stream.addEventListener("relay_event", (event) => {
      if (JSON.parse(event.data).eventType === "host_closed") this.#fail("host-closed");
    });
    return stream;
  }

  #listening() {
    if (this.#path === "relay") return this.#opened();
    this.#direct ??= new Direct({
      onsignal: (body) => this.#outbox.put(body),
      onopen: () => this.#opened(),
      onword: (text) => this.#handlers.onword(text),
      onend: (kind) => this.#end(kind),
    });
  }

  #hear(body) {
    if (this.#over) return;
    if (this.#direct) this.#direct.take(body);
    else if (typeof body?.payload === "string") this.#handlers.onword(body.payload);
  }

  #opened() {
    this.#settle.resolve(this);
    this.#settle = null;
  }

  /** Something is wrong with the relay, which an open data channel outlives. */
  #fail(kind) {
    if (this.#settle || !this.#direct) this.#end(kind);
  }

  #end(kind) {
    if (this.#over) return;
    this.close();
    if (this.#settle) this.#settle.reject(new PeerError(kind));
    else this.#handlers.onend(kind);
  }
}

const envelope = (payload) => ({ type: "string", payload });
