/**
 * The gRPC interface by which backup tools read changed blocks in Kubernetes (KEP-3314): the messages and numbers that its
 * server and its clients exchange. It differs from CSI's interface in the first fields of the requests.
 */
import { Client, credentials, Metadata, type MethodDefinition } from '@grpc/grpc-js';
import protobuf from 'protobufjs';

export interface BlockRange {
  readonly byte_offset: bigint;
  readonly size_bytes: bigint;
}

export interface RangesResponse {
  readonly block_metadata_type: string | number;
  readonly volume_capacity_bytes: bigint;
  readonly block_metadata: readonly BlockRange[];
}

interface RequestOfClient {
  /** A token of a service account, for the audience of the server. */
  readonly security_token: string;
  readonly namespace: string;
  readonly starting_offset: bigint;
  readonly max_results: number;
}

/** The allocated blocks of a VolumeSnapshot. */
export interface AllocatedRequest extends RequestOfClient {
  readonly snapshot_name: string;
}

/** The blocks that differ between an earlier snapshot, named by its CSI handle, and a VolumeSnapshot. */
export interface DeltaRequest extends RequestOfClient {
  readonly base_snapshot_id: string;
  readonly target_snapshot_name: string;
}

const { root } = protobuf.parse(
  `
  syntax = "proto3";
  package snapshotmetadata;

  service SnapshotMetadata {
    rpc GetMetadataAllocated(GetMetadataAllocatedRequest) returns (stream GetMetadataAllocatedResponse);
    rpc GetMetadataDelta(GetMetadataDeltaRequest) returns (stream GetMetadataDeltaResponse);
  }
  message GetMetadataAllocatedRequest {
    string security_token = 1;
    string namespace = 2;
    string snapshot_name = 3;
    int64 starting_offset = 4;
    int32 max_results = 5;
  }
  message GetMetadataDeltaRequest {
    string security_token = 1;
    string namespace = 2;
    string base_snapshot_id = 3;
    string target_snapshot_name = 4;
    int64 starting_offset = 5;
    int32 max_results = 6;
  }
  message GetMetadataAllocatedResponse {
    BlockMetadataType block_metadata_type = 1;
    int64 volume_capacity_bytes = 2;
    repeated BlockMetadata block_metadata = 3;
  }
  message GetMetadataDeltaResponse {
    BlockMetadataType block_metadata_type = 1;
    int64 volume_capacity_bytes = 2;
    repeated BlockMetadata block_metadata = 3;
  }
  enum BlockMetadataType { UNKNOWN = 0; FIXED_LENGTH = 1; VARIABLE_LENGTH = 2; }
  message BlockMetadata { int64 byte_offset = 1; int64 size_bytes = 2; }
  `,
  { keepCase: true },
);

const decoding = { longs: BigInt, enums: String, defaults: true, arrays: true } as const;

function method<Q extends object>(name: string): MethodDefinition<Q, RangesResponse> {
  const service = 'snapshotmetadata.SnapshotMetadata';
  const request = root.lookupType(`snapshotmetadata.${name}Request`);
  const response = root.lookupType(`snapshotmetadata.${name}Response`);
  const encode = (type: protobuf.Type, message: object): Buffer =>
    Buffer.from(type.encode(type.fromObject(message)).finish());
  // The interfaces above are the messages of the proto.
  return {
    path: `/${service}/${name}`,
    requestStream: false,
    responseStream: true,
    requestSerialize: (message) => encode(request, message),
    requestDeserialize: (bytes) => request.toObject(request.decode(bytes), decoding) as Q,
    responseSerialize: (message) => encode(response, message),
    responseDeserialize: (bytes) =>
      response.toObject(response.decode(bytes), decoding) as RangesResponse,
  };
}

export const methods = {
  GetMetadataAllocated: method<AllocatedRequest>('GetMetadataAllocated'),
  GetMetadataDelta: method<DeltaRequest>('GetMetadataDelta'),
};

/** What a client knows of a server: its object of the kind SnapshotMetadataService, and the address that its name leads to. */
export interface Address {
  /** HOST:PORT, by IP. */
  readonly target: string;
  /** The name in the server's certificate. */
  readonly host: string;
  /** CA of the server, PEM. */
  readonly ca: Buffer;
}

/** Reads all ranges of a stream. Fails with grpc-js's ServiceError. */
export async function readRanges<Q extends object>(
  { target, host, ca }: Address,
  { path, requestSerialize, responseDeserialize }: MethodDefinition<Q, RangesResponse>,
  request: Q,
): Promise<{ readonly ranges: readonly BlockRange[]; readonly volumeBytes: bigint }> {
  const client = new Client(target, credentials.createSsl(ca), {
    'grpc.ssl_target_name_override': host,
  });
  try {
    const stream = client.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      new Metadata(),
      { deadline: Date.now() + 60_000 },
    );
    const ranges: BlockRange[] = [];
    let volumeBytes = 0n;
    for await (const message of stream as AsyncIterable<RangesResponse>) {
      ranges.push(...message.block_metadata);
      volumeBytes = message.volume_capacity_bytes;
    }
    return { ranges, volumeBytes };
  } finally {
    client.close();
  }
}
