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
  async enter(key: string, open: () => Promise<OpenedSource>): Promise<OpenedSource> {
    let kept = this.#kept.get(key);
    if (kept === undefined) {
      kept = { opened: open(), readers: 0, isDone: false, timer: undefined };
      this.#kept.set(key, kept);
    }
    clearTimeout(kept.timer);
    kept.readers += 1;
    try {
      return await kept.opened;
    } catch (error) {
      if (this.#kept.get(key) === kept) this.#kept.delete(key);
      throw error;
    }
  }

  /** Removes a capture that is not the wanted one. Returns true if it cannot be removed, because it is being read. */
  async closeUnless(key: string, isWanted: (opened: OpenedSource) => boolean): Promise<boolean> {
    const kept = this.#kept.get(key);
    const opened = await kept?.opened.catch(() => undefined);
    if (kept === undefined || opened === undefined || isWanted(opened)) return false;
    await this.close(key);
    return this.#kept.get(key) === kept;
  }

  leave(key: string): void {
    const kept = this.#kept.get(key);
    if (kept === undefined) return;
    kept.readers -= 1;
    if (kept.readers > 0) return;
    if (kept.isDone) void this.close(key);
    else kept.timer = setTimeout(() => void this.close(key), this.#keepMs).unref();
  }

  /** Removes the capture, because its copy exists or is given up, once nobody reads it. */
  async close(key: string): Promise<void> {
    const kept = this.#kept.get(key);
    if (kept === undefined) return;
    kept.isDone = true;
    if (kept.readers > 0) return;
    clearTimeout(kept.timer);
    this.#kept.delete(key);
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
