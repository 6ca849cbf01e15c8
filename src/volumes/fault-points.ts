/**
 * Every step after an effect has a name. Production passes a function that does nothing; tests stop, fail or kill the driver
 * there (docs/design.md, "Crash safety").
 */
export const faultPoints = [
  'new:directory-made',
  'new:image-made',
  'new:image-synced',
  'new:record-written',
  'new:renamed',
  'new:committed',
  'create:filesystem-made',
  'delete:detached',
  'delete:renamed',
  'delete:committed',
  'trash:removed',
  'stage:image-grown',
  'stage:attached',
  'stage:noted',
  'stage:mounted',
  'stage:filesystem-grown',
  'unstage:unmounted',
  'unstage:detached',
  'unstage:forgotten',
  'publish:noted',
  'publish:target-made',
  'publish:attached',
  'publish:mounted',
  'unpublish:unmounted',
  'unpublish:target-removed',
  'unpublish:detached',
  'unpublish:forgotten',
  'expand:promised',
  'expand:image-grown',
  'expand:device-grown',
  'expand:filesystem-grown',
  'hold:noted',
  'release:unmounted',
  'release:detached',
  'ephemeral:made',
  'ephemeral:unmounted',
  'pool:marker-written',
  'adopt:retagged',
  'adopt:marked',
] as const;

export type FaultPoint = (typeof faultPoints)[number];

/** Called after the step of that name; a test's throw or kill happens inside. */
export type Reached = (point: FaultPoint) => void | Promise<void>;
