/** The manifest with which krew installs `kubectl loopcsi`. */
import { stringify } from 'yaml';

/** An archive of the plugin, and the machines that it is for. */
export interface KrewArchive {
  /** Name of the file on the release's page. */
  readonly file: string;
  readonly sha256: string;
  readonly os: 'linux' | 'darwin';
  /** undefined for all processors. */
  readonly arch?: 'amd64' | 'arm64';
}

const repository = 'https://github.com/loopcsi/loopcsi';

/** Returns the text of the manifest, in the format of krew's plugin manifests. */
export function krewManifest(version: string, archives: readonly KrewArchive[]): string {
  return stringify(
    {
      apiVersion: 'krew.googlecontainertools.github.com/v1alpha2',
      kind: 'Plugin',
      metadata: { name: 'loopcsi' },
      spec: {
        version: `v${version}`,
        homepage: repository,
        shortDescription: 'Show and check volumes of the loopcsi driver',
        description:
          'Lists the volumes of the CSI driver loopcsi on all nodes with their claims, pods and used space, checks the driver, its sidecars and pending claims, collects a support bundle, and runs commands of the driver on a node. It runs kubectl with your permissions and changes nothing by itself.\n',
        caveats:
          'On macOS the plugin needs Node 20.19 or later on the PATH.\nFor completion, link bin/kubectl_complete-loopcsi of the installed plugin into a directory of the PATH.\n',
        platforms: archives.map(({ file, sha256, os, arch }) => ({
          selector: { matchLabels: { os, ...(arch === undefined ? {} : { arch }) } },
          uri: `${repository}/releases/download/v${version}/${file}`,
          sha256,
          bin: 'bin/kubectl-loopcsi',
        })),
      },
    },
    { lineWidth: 0 },
  );
}
