/**
 * Packages that scripts/bundle.ts leaves out of the bundle. The driver loads them from node_modules, so an installation without
 * the other packages must contain these, and what they depend on.
 */
export const unbundledPackages = [
  // koffi loads its native library from its own directory.
  'koffi',
  // These are imported lazily. A bundled import() of a CommonJS package would lack the named exports that Node detects.
  '@peculiar/x509',
  'execa',
  'prom-client',
  'reflect-metadata',
  'yaml',
] as const;
