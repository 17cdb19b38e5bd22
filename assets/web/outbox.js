// What waits to be POSTed to the relay: one request at a time, because requests side by side overtake each other.

export class Outbox {
  #url;
  #onlost;
  #waiting = [];
  #newest = null;
  #busy = false;
  #closed = false;

  constructor(url, onlost) {
    this.#url = url;
    this.#onlost = onlost;
  }

  put(body) {
    this.#waiting.push(body);
    this.#run();
  }

  putNewest(body) {
    this.#newest = body;
    this.#run();
  }

  close() {
    this.#closed = true;
  }

  async #run() {
    if (this.#busy) return;
    this.#busy = true;
    while (!this.#closed && (this.#waiting.length > 0 || this.#newest)) {
      const next = this.#waiting.shift() ?? this.#newest;
      if (next === this.#newest) this.#newest = null;
      if (!(await this.#post(JSON.stringify(next)))) {
        if (!this.#closed) this.#onlost();
        return;
      }
    }
    this.#busy = false;
  }

  /** False: the relay or the host is gone. */
  async #post(body) {
    for (let patience = 5; patience > 0 && !this.#closed; patience--) {
      const answer = await fetch(this.#url, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body,
        signal: AbortSignal.timeout(8000),
      }).catch(() => null);
      if (answer?.status !== 429) return answer?.ok === true;
      // Too many requests: the relay took nothing, so that the same one may go again.
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
    return false;
  }
}
