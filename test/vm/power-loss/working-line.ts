/** Printed once the load has made enough changes that a power cut has something to lose. */
export const workingLine = 'working';
