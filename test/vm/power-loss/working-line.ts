/** Printed once the load has made enough changes that a power cut can lose data. */
export const workingLine = 'working';
