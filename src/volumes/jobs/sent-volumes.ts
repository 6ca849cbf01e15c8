import type { Host } from '../../host/host.ts';
import type { SourceFacts } from '../model.ts';

/** The image of a source, while it cannot change. */
export interface OpenedSource {
  /** Its calls run in a lane of their own. */
  readonly host: Host;
  readonly path: string;
  readonly facts: SourceFacts;
  /** Whether the data is a capture, which locks nothing. */
  readonly isCaptured: boolean;
  readonly close: () => Promise<void>;
}

export interface EnteredSource {
  readonly opened: OpenedSource;
  /** Called once. Resolves when the source is closed, unless others read it or it is kept for a reader that goes on. */
  readonly leave: (isKept: boolean) => Promise<void>;
}

/** Time for which a capture is kept for the other node to read on. */
const defaultKeepMs = 10 * 60_000;

interface Kept {
  readonly opened: Promise<OpenedSource>;
  readers: number;
  /** Whether it is removed as soon as nobody reads it. */
  isDone: boolean;
  timer: NodeJS.Timeout | undefined;
}

/**
 * Captures of volumes that other nodes read, one for each copy. A capture outlives a reading, so that an interrupted copy can go on. It is
 * removed when the copy exists, or when nobody has read it for ten minutes; the next start removes those that the end of the driver left.
 */
export class SentVolumes {
  readonly #kept = new Map<string, Kept>();
  readonly #keepMs: number;
  readonly #closeFailed: (key: string, error: unknown) => void;

  constructor(closeFailed: (key: string, error: unknown) => void, keepMs: number = defaultKeepMs) {
    this.#closeFailed = closeFailed;
    this.#keepMs = keepMs;
  }

  get size(): number {
    return this.#kept.size;
  }

  /** The capture for the copy with that key, which `open` makes if there is none. The caller must call `leave` when it reads no more. */
  async enter(key: string, open: () => Promise<OpenedSource>): Promise<EnteredSource> {
    let kept = this.#kept.get(key);
    if (kept === undefined) {
      kept = { opened: open(), readers: 0, isDone: false, timer: undefined };
      this.#kept.set(key, kept);
    }
    const entered = kept;
    clearTimeout(entered.timer);
    entered.readers += 1;
    try {
      const opened = await entered.opened;
      return { opened, leave: (isKept) => this.#leave(key, entered, isKept) };
    } catch (error) {
      if (this.#kept.get(key) === entered) this.#kept.delete(key);
      throw error;
    }
  }

  /**
   * Gives up a capture that is not the wanted one, so that the next reader gets another. One that is being read, perhaps by a reader whose
   * loss has not been noticed yet, is removed when that has left.
   */
  async replaceUnless(key: string, isWanted: (opened: OpenedSource) => boolean): Promise<void> {
    const kept = this.#kept.get(key);
    const opened = await kept?.opened.catch(() => undefined);
    if (kept === undefined || opened === undefined || isWanted(opened)) return;
    if (this.#kept.get(key) === kept) this.#kept.delete(key);
    await this.#end(key, kept);
  }

  async #leave(key: string, kept: Kept, isKept: boolean): Promise<void> {
    kept.readers -= 1;
    if (!isKept) kept.isDone = true;
    if (kept.readers > 0) return;
    if (kept.isDone) await this.#end(key, kept);
    else kept.timer = setTimeout(() => void this.#end(key, kept), this.#keepMs).unref();
  }

  /** Removes the capture, because its copy exists or is given up, once nobody reads it. */
  async close(key: string): Promise<void> {
    const kept = this.#kept.get(key);
    if (kept !== undefined) await this.#end(key, kept);
  }

  async #end(key: string, kept: Kept): Promise<void> {
    kept.isDone = true;
    if (kept.readers > 0) return;
    clearTimeout(kept.timer);
    if (this.#kept.get(key) === kept) this.#kept.delete(key);
    try {
      await (await kept.opened).close();
    } catch (error) {
      this.#closeFailed(key, error);
    }
  }

  /** Removes all captures that nobody reads. */
  async closeAll(): Promise<void> {
    await Promise.all([...this.#kept.keys()].map((key) => this.close(key)));
  }
}
