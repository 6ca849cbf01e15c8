/** The file operations that records need. `Files` in host/ implements them, with a time limit for each call. */
export interface FileCalls {
  exists(path: string): Promise<boolean>;
  readText(path: string): Promise<string>;
  /** Creates a file of mode 0600, without fsync. EEXIST if the file exists. */
  writeNew(path: string, text: string): Promise<void>;
  /**
   * Replaces the content atomically: a crash of the machine leaves either the old or the new content. With `durable:
   * false` that holds only for a crash of the process.
   */
  replaceFile(path: string, text: string, options?: { durable?: boolean }): Promise<void>;
  /** Creates a directory of mode 0700 and its missing parents. Does nothing if the directory exists. */
  makeDirectory(path: string): Promise<void>;
}

/** File operations in a directory that several processes share. */
export interface SharedFileCalls extends FileCalls {
  /**
   * Acquires an exclusive flock(2). Fails with errno EAGAIN while another process, or another call of this process, has
   * it.
   */
  lock(path: string): Promise<{ release(): Promise<void> }>;
}
