// The direct path: a WebRTC data channel, introduced over the relay. The client offers.

/** A host that takes offers answers at once; waiting longer only keeps the player from the relay path. */
const ANSWER_MS = 2000;
const OPEN_MS = 4000;
/** More than this in the send buffer, and a position that is soon outdated had better not queue up. */
const BUSY_BYTES = 4096;

export const canGoDirect = typeof RTCPeerConnection === "function";

export class Direct {
  #handlers;
  #connection = new RTCPeerConnection();
  #channel = this.#connection.createDataChannel("uhst");
  #early = [];
  #answered = false;
  #over = false;

  /** Handlers: `onsignal(body)` for the host, `onopen()`, `onword(text)`, `onend("no-direct" | "closed" | "lost")`. */
  constructor(handlers) {
    this.#handlers = handlers;
    let open = false;
    setTimeout(() => this.#answered || this.#end("no-direct"), ANSWER_MS);
    setTimeout(() => open || this.#end("no-direct"), OPEN_MS);

    this.#channel.onopen = () => {
      open = true;
      if (!this.#over) handlers.onopen();
    };
    this.#channel.onmessage = ({ data }) => typeof data === "string" && handlers.onword(data);
    this.#channel.onclose = () => {
      const broken = ["failed", "disconnected"].includes(this.#connection.connectionState);
      this.#end(!open ? "no-direct" : broken ? "lost" : "closed");
    };
    this.#connection.onconnectionstatechange = () => {
      if (this.#connection.connectionState === "failed") this.#end(open ? "lost" : "no-direct");
    };
    this.#connection.onicecandidate = ({ candidate }) => {
      if (candidate?.candidate && !this.#over) handlers.onsignal(candidate.toJSON());
    };
    this.#offer().catch(() => this.#end("no-direct"));
  }

  /** Takes an answer or a candidate. Candidates may come before the answer. */
  async take(body) {
    try {
      if (body?.type === "answer" && !this.#answered) {
        this.#answered = true;
        await this.#connection.setRemoteDescription(body);
        for (const candidate of this.#early.splice(0)) await this.#connection.addIceCandidate(candidate);
      } else if (body?.candidate !== undefined) {
        if (this.#connection.remoteDescription) await this.#connection.addIceCandidate(body);
        else this.#early.push(body);
      }
    } catch {
      // A candidate of a kind this browser does not know: there are others.
    }
  }

  say(text) {
    // A channel that closes this moment says so itself.
    if (this.#channel.readyState === "open") this.#channel.send(text);
  }

  sayUnlessBusy(text) {
    if (this.#channel.bufferedAmount < BUSY_BYTES) this.say(text);
  }

  close() {
    this.#over = true;
    this.#channel.close();
    this.#connection.close();
  }

  async #offer() {
    const offer = await this.#connection.createOffer();
    this.#handlers.onsignal({ sdp: offer.sdp, type: offer.type });
    // Starts the candidates, which must come after the offer.
    await this.#connection.setLocalDescription(offer);
  }

  #end(kind) {
    if (this.#over) return;
    this.close();
    this.#handlers.onend(kind);
  }
}
