/** Prometheus and promtool, built from the Go module proxy: `test/go/prometheus/go.mod` names the release. */
import { join } from 'node:path';
import { run } from '../../scripts/command.ts';
import { cached, hashInputs, projectRoot } from '../e2e/cluster/cache.ts';

const module = join(projectRoot, 'test/go/prometheus');
const environment = { CGO_ENABLED: '0', GOFLAGS: '-mod=readonly -buildvcs=false', GOWORK: 'off' };
/** Without service discovery, the programs need neither the clients of clouds nor that of Kubernetes. */
const tags = 'remove_all_sd';
const packages = ['prometheus', 'promtool'].map(
  (name) => `github.com/prometheus/prometheus/cmd/${name}`,
);

/**
 * The directory of both programs. A build takes three minutes on two cores with an empty Go cache. Prometheus is built without its
 * pages for browsers, which are not in the module; its API needs none.
 */
export async function prometheusPrograms(): Promise<string> {
  const go = { cwd: module, env: environment, timeoutMs: 30 * 60_000 };
  const version = await run('go', ['env', 'GOVERSION', 'GOARCH'], go);
  const key = await hashInputs([version, tags, ...packages], ['test/go/prometheus']);
  return cached('prometheus', key, async (draft) => {
    const flags = ['-trimpath', '-tags', tags, '-ldflags', '-s -w', '-o', `${draft}/`];
    await run('nice', ['go', 'build', ...flags, ...packages], go);
  });
}
