/** The file operations that records need. `Files` in host/ implements them, where each call gets a time limit and is counted. */
export interface FileCalls {
  exists(path: string): Promise<boolean>;
  readText(path: string): Promise<string>;
  /** Mode 0600; not synced. EEXIST if the file exists. */
  writeNew(path: string, text: string): Promise<void>;
  /** Leaves either the old or the new content after a crash of the machine; with `durable: false`, only of the process. */
  replaceFile(path: string, text: string, options?: { durable?: boolean }): Promise<void>;
  /** Mode 0700, including missing parents. Succeeds if the directory exists. */
  makeDirectory(path: string): Promise<void>;
}

/** File operations in a directory that several processes share. */
export interface SharedFileCalls extends FileCalls {
  /** Takes an exclusive flock(2). Fails with errno EAGAIN while another process, or another call of this one, has it. */
  lock(path: string): Promise<{ release(): Promise<void> }>;
}
