/** Where the records of nodes are kept: a ConfigMap in Kubernetes, a file elsewhere. */
export interface NodeStore {
  /** For messages: `ConfigMap NAMESPACE/NAME`, or the path of the file. */
  readonly description: string;
  /**
   * Calls `onText` with the stored text, undefined if there is none, after the first successful read and after every change. While the
   * source cannot be read, it does not call. `onMissing` is called instead, with what to do, if there has to be a source and there is none.
   */
  follow(
    onText: (text: string | undefined) => void,
    onMissing: (problem: string) => void,
  ): { close(): void };
  /**
   * Replaces the text durably, and resolves with the new one. `change` gets the text that is stored now, and may be called several
   * times if others write meanwhile.
   */
  update(change: (text: string | undefined) => string): Promise<string>;
}
