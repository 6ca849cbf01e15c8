/** What records need of the files they lie in. The node's `Files` (host/) fulfils it, so each call is bounded and counted there. */
export interface RecordFiles {
  exists(path: string): Promise<boolean>;
  readText(path: string): Promise<string>;
  /** Mode 0600; not synced. EEXIST if there. */
  writeNew(path: string, text: string): Promise<void>;
  /** Leaves the old or the new content, whole, also after a crash; with `durable: false` only after one of the process. */
  replaceFile(path: string, text: string, options?: { durable?: boolean }): Promise<void>;
  /** Mode 0700, with what is missing above it; there already is fine. */
  makeDirectory(path: string): Promise<void>;
}

/** The same for a folder that processes share. */
export interface SharedFiles extends RecordFiles {
  /** flock(2), exclusive. Fails with errno EAGAIN while another process, or another holder of this one, has it. */
  lock(path: string): Promise<{ release(): Promise<void> }>;
}
