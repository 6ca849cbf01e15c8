/**
 * Compares our descriptors, as the driver loads them, with the published ones. The Go modules of CSI and of the kubelet
 * publish them in two forms: the proto file, and the descriptor compiled into the Go code.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { protoPath, protoSources, readProto, repositoryUrl } from '../../scripts/csi-proto.ts';
import { serviceType } from '../../src/csi/codec.ts';
import type { ServiceName } from '../../src/csi/rpc-types.ts';
import { factsOfRaw, rawDescriptor } from '../helpers/go-descriptor.ts';
import { goModule } from '../helpers/go-module.ts';
import { differences, type Facts, factsOf } from '../helpers/proto-facts.ts';

function ourFacts(service: ServiceName): Facts {
  return factsOf(serviceType(service).root, service.slice(0, service.lastIndexOf('.')));
}

const csiVersion = (await readFile(new URL('csi-proto/VERSION', repositoryUrl), 'utf8')).trim();

/** `minFacts` fails a test that compares two empty sets. */
const published = [
  {
    service: 'csi.v1.Controller',
    packageName: 'csi.v1',
    module: 'github.com/container-storage-interface/spec',
    version: csiVersion,
    proto: 'csi.proto',
    go: 'lib/go/csi/csi.pb.go',
    minFacts: 390,
  },
  {
    service: 'pluginregistration.Registration',
    packageName: 'pluginregistration',
    module: 'k8s.io/kubelet',
    version: 'v0.37.2',
    proto: 'pkg/apis/pluginregistration/v1/api.proto',
    go: 'pkg/apis/pluginregistration/v1/api.pb.go',
    minFacts: 13,
  },
] as const;

for (const { service, packageName, module, version, proto, go, minFacts } of published) {
  test(`${packageName} equals ${module}@${version}: ${proto}`, async (t) => {
    const directory = await goModule(module, version);
    const ours = ourFacts(service);
    t.true(ours.size >= minFacts, `${ours.size} facts`);
    t.deepEqual(differences(ours, factsOf(readProto(join(directory, proto)), packageName)), []);
  });

  test(`${packageName} equals ${module}@${version}: ${go}`, async (t) => {
    const directory = await goModule(module, version);
    const raw = rawDescriptor(await readFile(join(directory, go), 'utf8'));
    const source = protoSources[0];
    if (source === undefined) throw new Error('protoSources is empty');
    const theirs = factsOfRaw(raw, readProto(protoPath(source)));
    t.deepEqual(differences(ourFacts(service), theirs), []);
  });
}
