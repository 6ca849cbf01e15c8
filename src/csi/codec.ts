/**
 * Messages of csi-proto/ as plain objects: the one place where protobufjs meets grpc-js. Objects are what the generated
 * types say: int64 as bigint, enums as names (a number when this interface has no name for it), absent messages `null`,
 * every scalar, list and map present, a oneof's tag only when one of its members is set.
 */
import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js';
import protobuf from 'protobufjs/light.js';
import { descriptor as admin } from './admin-descriptor.ts';
import { descriptor as csi } from './descriptor.ts';
import { descriptor as registration } from './registration-descriptor.ts';
import type { Handlers, ServiceName } from './services.ts';

const toObjectOptions: protobuf.IConversionOptions = {
  longs: BigInt,
  enums: String,
  bytes: Buffer,
  defaults: true,
  arrays: true,
  objects: true,
  oneofs: true,
};

/** Reflected on first use: a driver that is never asked by the command line never builds the Admin messages. */
const roots: readonly { readonly prefix: string; readonly root: () => protobuf.Root }[] = [
  { prefix: 'csi.v1.', root: lazily(csi) },
  { prefix: 'loopcsi.v1.', root: lazily(admin) },
  { prefix: 'pluginregistration.', root: lazily(registration) },
];

function lazily(descriptor: object): () => protobuf.Root {
  let root: protobuf.Root | undefined;
  return () => {
    root ??= protobuf.Root.fromJSON(descriptor);
    return root;
  };
}

function rootOf(fullName: string): protobuf.Root {
  const found = roots.find(({ prefix }) => fullName.startsWith(prefix));
  if (found === undefined) throw new Error(`no proto holds ${fullName}`);
  return found.root();
}

/** The reflection of a message, `csi.v1.Volume` for example. Throws when there is none of that name. */
export function messageType(fullName: string): protobuf.Type {
  return rootOf(fullName).lookupType(fullName);
}

/** The reflection of a service. Throws when there is none of that name. */
export function serviceType(fullName: ServiceName): protobuf.Service {
  return rootOf(fullName).lookupService(fullName);
}

/**
 * The bytes of a message. What a plain object holds beyond the type's fields is dropped without a word, an int64 beyond
 * 63 bits wraps: the types are the guard, so write responses as typed literals. Throws for a member that is not an object.
 */
export function encode(type: protobuf.Type, message: object): Buffer {
  // In Node protobufjs writes into a Buffer of its own pool; its type says Uint8Array for the browser's sake.
  return type.encode(type.fromObject(message)).finish() as Buffer;
}

/** The message in `bytes`; unknown fields are dropped. Throws when they are no message, which grpc-js answers INTERNAL. */
export function decode(type: protobuf.Type, bytes: Uint8Array): object {
  return type.toObject(type.decode(bytes), toObjectOptions);
}

function method(definition: protobuf.Method, path: string): MethodDefinition<object, object> {
  definition.resolve();
  const { resolvedRequestType: request, resolvedResponseType: response } = definition;
  if (request === null || response === null) throw new Error(`${path} is not resolved`);
  return {
    path,
    requestStream: definition.requestStream === true,
    responseStream: definition.responseStream === true,
    requestSerialize: (message) => encode(request, message),
    requestDeserialize: (bytes) => decode(request, bytes),
    responseSerialize: (message) => encode(response, message),
    responseDeserialize: (bytes) => decode(response, bytes),
    originalName: definition.name,
  };
}

/** What grpc-js's `addService` takes; the handlers beside it are `Handlers<N>`. Keys are the RPC names as in the proto. */
export function serviceDefinition<N extends ServiceName>(name: N): ServiceDefinition<Handlers<N>> {
  const definitions = serviceType(name).methodsArray.map((definition) => [
    definition.name,
    method(definition, `/${name}/${definition.name}`),
  ]);
  // Keys and message types come from the same proto as Handlers<N>.
  return Object.fromEntries(definitions) as ServiceDefinition<Handlers<N>>;
}
