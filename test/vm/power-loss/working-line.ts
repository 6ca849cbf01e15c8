/** What the load says when a power cut would find something. */
export const workingLine = 'working';
