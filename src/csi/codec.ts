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
import type { Handlers, ServiceName } from './rpc-types.ts';

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
const protos: readonly {
  readonly prefix: string;
  readonly descriptor: protobuf.INamespace;
  readonly root: () => protobuf.Root;
}[] = [
  { prefix: 'csi.v1.', descriptor: csi, root: lazily(() => protobuf.Root.fromJSON(csi)) },
  { prefix: 'loopcsi.v1.', descriptor: admin, root: lazily(() => protobuf.Root.fromJSON(admin)) },
  {
    prefix: 'pluginregistration.',
    descriptor: registration,
    root: lazily(() => protobuf.Root.fromJSON(registration)),
  },
];

function lazily<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

function protoOf(fullName: string): (typeof protos)[number] {
  const found = protos.find(({ prefix }) => fullName.startsWith(prefix));
  if (found === undefined) throw new Error(`no proto holds ${fullName}`);
  return found;
}

function rootOf(fullName: string): protobuf.Root {
  return protoOf(fullName).root();
}

function descriptorOf(fullName: string): protobuf.INamespace {
  return protoOf(fullName).descriptor;
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

/** A method as the descriptor states it; nothing is reflected for it. Types by their full names. */
export interface MethodShape {
  readonly name: string;
  readonly requestType: string;
  readonly responseType: string;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
}

/** The methods of a service, in the proto's order. Throws when there is none of that name. */
export function methodsOf(service: ServiceName): readonly MethodShape[] {
  const packageName = service.slice(0, service.lastIndexOf('.'));
  const found = service
    .split('.')
    .reduce<protobuf.AnyNestedObject | undefined>(
      (within, part) =>
        within !== undefined && 'nested' in within ? within.nested?.[part] : undefined,
      descriptorOf(service),
    );
  if (found === undefined || !('methods' in found)) throw new Error(`no proto holds ${service}`);
  return Object.entries(found.methods).map(([name, method]) => ({
    name,
    requestType: `${packageName}.${method.requestType}`,
    responseType: `${packageName}.${method.responseType}`,
    requestStream: method.requestStream === true,
    responseStream: method.responseStream === true,
  }));
}

function definitionOf(shape: MethodShape, path: string): MethodDefinition<object, object> {
  const request = lazily(() => messageType(shape.requestType));
  const response = lazily(() => messageType(shape.responseType));
  return {
    path,
    requestStream: shape.requestStream,
    responseStream: shape.responseStream,
    requestSerialize: (message) => encode(request(), message),
    requestDeserialize: (bytes) => decode(request(), bytes),
    responseSerialize: (message) => encode(response(), message),
    responseDeserialize: (bytes) => decode(response(), bytes),
    originalName: shape.name,
  };
}

/** What grpc-js's `addService` takes; the handlers beside it are `Handlers<N>`. Keys are the RPC names as in the proto. */
export function serviceDefinition<N extends ServiceName>(name: N): ServiceDefinition<Handlers<N>> {
  const definitions = methodsOf(name).map((shape) => [
    shape.name,
    definitionOf(shape, `/${name}/${shape.name}`),
  ]);
  // Keys and message types come from the same proto as Handlers<N>.
  return Object.fromEntries(definitions) as ServiceDefinition<Handlers<N>>;
}
