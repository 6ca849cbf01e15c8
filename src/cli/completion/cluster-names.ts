/** Names of a cluster's objects, for completion. */
import { makeKubectl } from '../cluster/kubectl.ts';
import type { Candidate, ClusterNameKind, GivenFlags } from './candidates.ts';

/** The commands that print one name a line; those of objects follow the kind and a slash. */
const commands: Readonly<Record<ClusterNameKind, readonly string[]>> = {
  nodes: ['get', 'nodes', '--output=name'],
  namespaces: ['get', 'namespaces', '--output=name'],
  contexts: ['config', 'get-contexts', '--output=name'],
};

/** `given` are the flags on the line, of which kubectl gets its own. */
export async function clusterNamesOf(
  kind: ClusterNameKind,
  given: GivenFlags,
): Promise<readonly Candidate[]> {
  const { '--kubeconfig': kubeconfig, '--context': context } = given;
  const kubectl = makeKubectl({
    requestTimeout: '1s',
    ...(kubeconfig === undefined ? {} : { kubeconfig }),
    ...(context === undefined ? {} : { context }),
  });
  const lines = (await kubectl.run(...commands[kind])).split('\n').filter((line) => line !== '');
  const names = kind === 'contexts' ? lines : lines.map((line) => line.replace(/^[^/]*\//, ''));
  return names.map((value) => ({ value, description: '' }));
}
