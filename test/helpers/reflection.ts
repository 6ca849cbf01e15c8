/** Walks over the protos as the codec sees them. */
import protobuf from 'protobufjs/light.js';
import { serviceType } from '../../src/csi/codec.ts';
import type { ServiceName } from '../../src/csi/rpc-types.ts';

/** Every service of every proto; the type makes a forgotten one fail to compile. */
export const serviceNames = Object.keys({
  'csi.v1.Identity': true,
  'csi.v1.Controller': true,
  'csi.v1.GroupController': true,
  'csi.v1.SnapshotMetadata': true,
  'csi.v1.Node': true,
  'loopcsi.v1.Admin': true,
  'pluginregistration.Registration': true,
} satisfies Record<ServiceName, true>) as readonly ServiceName[];

/** Every message of the three protos, nested ones included, without those of google.protobuf. */
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

/** `csi.v1.Volume` of a reflected type. */
export function nameOf(type: protobuf.Type): string {
  return type.fullName.slice(1);
}
