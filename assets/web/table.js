// What everyone at the table sees: the host's words, applied in order. The same as `table.rs` of the lobby example.

/** The arena in its own units, the origin in a corner. */
export const ARENA = { x: 16, y: 9 };
const WALKABLE = { left: 0.6, top: 1.0, right: ARENA.x - 0.6, bottom: ARENA.y - 0.6 };
const COLOURS = 8;

export class Table {
  me = null;
  code = "";
  players = [];
  max = 0;
  /** Lines of the chat: `{ from: { name, colour, me } | null, text }`; news are from nobody. */
  chat = [];
  playing = false;
  endsAt = 0;
  spark = { x: ARENA.x / 2, y: ARENA.y / 2 };
  /** Where each figure is; our own is ahead of what the host knows. */
  figures = new Map();
  /** Where the host thinks that we are. */
  seen = null;
  /** The last round: `{ name, colour, me, score }` of its winner, or `{}` without one. */
  result = null;

  player(id) {
    return this.players.find((player) => player.id === id);
  }

  get myself() {
    return this.player(this.me);
  }

  get host() {
    return this.players.find((player) => player.way === "host");
  }

  get secondsLeft() {
    return Math.max(0, (this.endsAt - performance.now()) / 1000);
  }

  /** Takes in a word and returns what is new: `[{ kind, text }]`. */
  apply(word) {
    // Sent to everyone before the host knew us.
    if (this.me === null && word.word !== "welcome") return [];
    const news = this.#take(word);
    for (const { kind, text } of news) {
      if (["joined", "gone", "finished"].includes(kind)) this.chat.push({ from: null, text });
    }
    return news;
  }

  #take(word) {
    switch (word.word) {
      case "welcome":
        // Whoever comes back after a lost connection wants to read on.
        Object.assign(this, new Table(), { me: word.you, code: word.code, chat: this.chat });
        return [{ kind: "entered" }];
      case "roster":
        return this.#seat(word.players, word.max);
      case "gone": {
        const text = `${this.#name(word.id)} ${word.how}`;
        this.players = this.players.filter((player) => player.id !== word.id);
        this.figures.delete(word.id);
        return [{ kind: "gone", text }];
      }
      case "chat": {
        const from = this.player(word.from);
        this.chat.push({
          from: { name: this.#name(word.from), colour: from?.colour ?? 0, me: word.from === this.me },
          text: word.text,
        });
        return [{ kind: "said" }];
      }
      case "start":
        this.playing = true;
        this.result = null;
        this.endsAt = performance.now() + word.seconds * 1000;
        this.figures = new Map(this.players.map((player) => [player.id, startOf(player.colour)]));
        return [{ kind: "started" }];
      case "spark":
        this.spark = { x: word.x, y: word.y };
        return this.#caught(word.caught_by);
      case "positions":
        for (const [id, x, y] of word.figures) {
          if (id === this.me) this.seen = { x, y };
          else this.figures.set(id, { x, y });
        }
        return [];
      case "finish":
        return this.#finish(word.winner);
      default:
        return [];
    }
  }

  #seat(players, max) {
    const first = this.players.length === 0;
    const joined = players.filter((player) => !first && !this.player(player.id));
    this.players = players;
    this.max = max;
    return [{ kind: "roster" }, ...joined.map(({ name }) => ({ kind: "joined", text: `${name} joined` }))];
  }

  #caught(id) {
    const catcher = this.player(id);
    if (!catcher) return [];
    catcher.score += 1;
    if (id === this.me) return [{ kind: "caught", me: true, text: `You caught a spark and have ${catcher.score}` }];
    return [{ kind: "caught", text: `${catcher.name} caught a spark and has ${catcher.score}` }];
  }

  #finish(id) {
    const winner = this.player(id);
    this.playing = false;
    this.figures.clear();
    this.result = winner ? { ...winner, me: id === this.me } : {};
    const text = winner ? `${winner.name} won the round` : "The round ended without a winner";
    return [{ kind: "finished", text }];
  }

  #name(id) {
    return this.player(id)?.name ?? "Someone";
  }
}

/** The nearest place where a figure may stand. */
export function heldInside({ x, y }) {
  return {
    x: Math.min(Math.max(x, WALKABLE.left), WALKABLE.right),
    y: Math.min(Math.max(y, WALKABLE.top), WALKABLE.bottom),
  };
}

function startOf(colour) {
  const angle = (2 * Math.PI * colour) / COLOURS;
  return { x: ARENA.x / 2 + 3 * Math.cos(angle), y: ARENA.y / 2 + 3 * Math.sin(angle) };
}
