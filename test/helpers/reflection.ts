/** Lists the services and messages of the protos, as the codec reflects them. */
import protobuf from 'protobufjs/light.js';
import { serviceType } from '../../src/csi/codec.ts';
import type { ServiceName } from '../../src/csi/rpc-types.ts';

/** All services of all protos. With this type, a missing one does not compile. */
export const serviceNames = Object.keys({
  'csi.v1.Identity': true,
  'csi.v1.Controller': true,
  'csi.v1.GroupController': true,
  'csi.v1.SnapshotMetadata': true,
  'csi.v1.Node': true,
  'loopcsi.v1.Admin': true,
  'loopcsi.v1.Nodes': true,
  'loopcsi.agent.v1.Agent': true,
  'loopcsi.agent.v1.Sources': true,
  'pluginregistration.Registration': true,
} satisfies Record<ServiceName, true>) as readonly ServiceName[];

/** All messages of the four protos, including nested ones, except google.protobuf. */
export function everyMessage(): readonly protobuf.Type[] {
  const packages = new Set<protobuf.NamespaceBase>();
  for (const name of serviceNames) {
    const { parent } = serviceType(name);
    if (parent !== null) packages.add(parent);
  }
  return [...packages].flatMap(messagesIn);
}

function messagesIn(namespace: protobuf.NamespaceBase): readonly protobuf.Type[] {
  return namespace.nestedArray.flatMap((object) =>
    object instanceof protobuf.Type ? [object, ...messagesIn(object)] : [],
  );
}

/** The full name of a reflected type, `csi.v1.Volume` for example. */
export function nameOf(type: protobuf.Type): string {
  return type.fullName.slice(1);
}
