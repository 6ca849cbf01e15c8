/**
 * Encodes and decodes the messages of csi-proto/ for grpc-js, with protobufjs. Decoded messages are plain objects that match
 * the generated types: int64 as bigint, enums as names (or as a number if this version of the interface has no name for it),
 * absent messages as `null`. All scalars, lists and maps are present; the tag of a oneof is present only if one of its
 * members is set.
 */
import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js';
import protobuf from 'protobufjs/light.js';
import { descriptor as admin } from './admin-descriptor.ts';
import { descriptor as agent } from './agent-descriptor.ts';
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

/**
 * The root of each proto is built at its first use, so that a driver without calls from the command line never builds the
 * Admin messages.
 */
const protos: readonly {
  readonly prefix: string;
  readonly descriptor: protobuf.INamespace;
  readonly root: () => protobuf.Root;
}[] = [
  { prefix: 'csi.v1.', descriptor: csi, root: lazily(() => protobuf.Root.fromJSON(csi)) },
  { prefix: 'loopcsi.v1.', descriptor: admin, root: lazily(() => protobuf.Root.fromJSON(admin)) },
  {
    prefix: 'loopcsi.agent.v1.',
    descriptor: agent,
    root: lazily(() => protobuf.Root.fromJSON(agent)),
  },
  {
    prefix: 'pluginregistration.',
    descriptor: registration,
    root: lazily(() => protobuf.Root.fromJSON(registration)),
  },
];

/** Returns a function that creates the value at its first call. */
export function lazily<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

function protoOf(fullName: string): (typeof protos)[number] {
  const found = protos.find(({ prefix }) => fullName.startsWith(prefix));
  if (found === undefined) throw new Error(`no proto defines ${fullName}`);
  return found;
}

function rootOf(fullName: string): protobuf.Root {
  return protoOf(fullName).root();
}

function descriptorOf(fullName: string): protobuf.INamespace {
  return protoOf(fullName).descriptor;
}

/** Returns the reflected type of a message, for example `csi.v1.Volume`. Throws if the name is unknown. */
export function messageType(fullName: string): protobuf.Type {
  return rootOf(fullName).lookupType(fullName);
}

/** Returns the reflected type of a service. Throws if the name is unknown. */
export function serviceType(fullName: ServiceName): protobuf.Service {
  return rootOf(fullName).lookupService(fullName);
}

/**
 * Encodes a message. Properties that are not fields are dropped silently; only the type checker can find them, so write
 * responses as typed literals. An int64 that does not fit wraps around. Throws if a message field is not an object.
 */
export function encode(type: protobuf.Type, message: object): Buffer {
  // In Node.js, protobufjs returns a Buffer; the type is Uint8Array because it also supports browsers.
  return type.encode(type.fromObject(message)).finish() as Buffer;
}

/** Decodes a message; unknown fields are dropped. Throws if the bytes are malformed; grpc-js then returns INTERNAL. */
export function decode(type: protobuf.Type, bytes: Uint8Array): object {
  return type.toObject(type.decode(bytes), toObjectOptions);
}

/** A method of a service, read from the descriptor without building reflected types. Type names are full names. */
interface MethodShape {
  readonly name: string;
  readonly requestType: string;
  readonly responseType: string;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
}

/** Returns the methods of a service, in the order of the proto. Throws if the name is unknown. */
export function methodsOf(service: ServiceName): readonly MethodShape[] {
  const packageName = service.slice(0, service.lastIndexOf('.'));
  const found = service
    .split('.')
    .reduce<protobuf.AnyNestedObject | undefined>(
      (within, part) =>
        within !== undefined && 'nested' in within ? within.nested?.[part] : undefined,
      descriptorOf(service),
    );
  if (found === undefined || !('methods' in found)) throw new Error(`no proto defines ${service}`);
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

/**
 * Returns the definition for grpc-js's `addService`, whose handlers are `Handlers<N>`. Its keys are the names of the RPCs.
 */
export function serviceDefinition<N extends ServiceName>(name: N): ServiceDefinition<Handlers<N>> {
  const definitions = methodsOf(name).map((shape) => [
    shape.name,
    definitionOf(shape, `/${name}/${shape.name}`),
  ]);
  // The keys and message types come from the same proto as Handlers<N>.
  return Object.fromEntries(definitions) as ServiceDefinition<Handlers<N>>;
}
