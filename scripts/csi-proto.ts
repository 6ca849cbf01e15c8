/** Parses the files of csi-proto/ with protobufjs, preserving comments and the case of names. */
import { createRequire } from 'node:module';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import protobuf from 'protobufjs';

const require = createRequire(import.meta.url);

/** The repository's root, relative to dist/scripts/. */
export const repositoryUrl = new URL('../..', import.meta.url);

/** A proto file and the files that are generated from it. */
export interface ProtoSource {
  readonly proto: string;
  readonly packageName: string;
  readonly types: string;
  readonly descriptor: string;
  /** Name of the generated interface that lists the services. */
  readonly services: string;
}

/** Paths are relative to the repository's root. */
export const protoSources: readonly ProtoSource[] = [
  {
    proto: 'csi-proto/csi.proto',
    packageName: 'csi.v1',
    types: 'src/csi/types.ts',
    descriptor: 'src/csi/descriptor.ts',
    services: 'CsiServices',
  },
  {
    proto: 'csi-proto/loopcsi.proto',
    packageName: 'loopcsi.v1',
    types: 'src/csi/admin-types.ts',
    descriptor: 'src/csi/admin-descriptor.ts',
    services: 'LoopcsiServices',
  },
  {
    proto: 'csi-proto/agent.proto',
    packageName: 'loopcsi.agent.v1',
    types: 'src/csi/agent-types.ts',
    descriptor: 'src/csi/agent-descriptor.ts',
    services: 'AgentServices',
  },
  {
    proto: 'csi-proto/registration.proto',
    packageName: 'pluginregistration',
    types: 'src/csi/registration-types.ts',
    descriptor: 'src/csi/registration-descriptor.ts',
    services: 'RegistrationServices',
  },
];

/** Parses a proto file and its imports. Throws the parse error of protobufjs, which names the line. */
export function readProto(path: string): protobuf.Root {
  const root = new protobuf.Root();
  root.resolvePath = (_origin, target) => {
    // protobufjs has the well-known types built in, but ships descriptor.proto as a file.
    if (basename(target) === 'descriptor.proto') {
      return require.resolve('protobufjs/google/protobuf/descriptor.proto');
    }
    return target;
  };
  root.loadSync(path, { keepCase: true, alternateCommentMode: true });
  root.resolveAll();
  return root;
}

export function protoPath(source: ProtoSource): string {
  return fileURLToPath(new URL(source.proto, repositoryUrl));
}

/** All messages in the order of the file; nested messages follow their parent. */
export function messagesOf(namespace: protobuf.NamespaceBase): readonly protobuf.Type[] {
  return namespace.nestedArray.flatMap((object) => {
    if (object instanceof protobuf.Type) return [object, ...messagesOf(object)];
    return [];
  });
}

/** All enums, including those inside messages. */
export function enumsOf(namespace: protobuf.NamespaceBase): readonly protobuf.Enum[] {
  return namespace.nestedArray.flatMap((object) => {
    if (object instanceof protobuf.Enum) return [object];
    return object instanceof protobuf.Type ? enumsOf(object) : [];
  });
}

export function servicesOf(namespace: protobuf.NamespaceBase): readonly protobuf.Service[] {
  return namespace.nestedArray.filter((object) => object instanceof protobuf.Service);
}

/** Throws when the file does not define the package. */
export function packageOf(root: protobuf.Root, name: string): protobuf.NamespaceBase {
  const found = root.lookup(name);
  if (!(found instanceof protobuf.Namespace)) throw new Error(`package ${name} is not defined`);
  return found;
}
