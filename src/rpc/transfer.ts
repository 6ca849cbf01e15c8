import type {
  ExportImageResponse,
  ImportStreamRequest,
  ImportVolumeRequest,
  ImportVolumeResponse,
} from '../csi/admin-types.ts';
import { VolumeError } from '../errors.ts';
import { fsTypes } from '../host/host.ts';
import type { Administration, ImportAnswer } from '../volumes/admin/calls.ts';
import type { ImportInput } from '../volumes/admin/transfer/import-draft.ts';
import type { ImageChunks } from '../volumes/admin/transfer/import-stream.ts';
import { adminVolumeMessage } from './admin-messages.ts';
import type { Implementation } from './handlers.ts';
import { requirePath, requireText } from './validate.ts';

/** The calls of Admin that bring data in and out. */
export function transferMethods(admin: Administration): Implementation<'loopcsi.v1.Admin'> {
  return {
    async ImportVolume(request, call) {
      const answer = await admin.importVolume(call, {
        ...parseImport(request),
        path: requirePath(request.source_path, 'source_path'),
        isDryRun: request.dry_run,
      });
      return importMessage(answer);
    },

    async ImportStream(requests, call) {
      const steps = requests[Symbol.asyncIterator]();
      const first = await steps.next();
      const start = first.done === true || first.value.step !== 'start' ? null : first.value.start;
      const request = start?.request ?? null;
      if (start === null || request === null) {
        throw new VolumeError('invalid', "the first message of the stream must have 'start'");
      }
      if (request.source_path !== '' || request.dry_run) {
        throw new VolumeError('invalid', 'source_path and dry_run do not apply to a stream');
      }
      const input = { ...parseImport(request), imageBytes: start.image_bytes };
      return importMessage(await admin.importStream(call, input, chunksOf(steps)));
    },

    async *ExportImage(request, call) {
      const { volume_id: volumeId, snapshot_id: snapshotId } = request;
      if (volumeId !== '' && snapshotId !== '') {
        throw new VolumeError('invalid', 'volume_id and snapshot_id cannot be combined');
      }
      const steps = admin.exportImage(call, {
        kind: snapshotId === '' ? 'volume' : 'snapshot',
        idOrName: requireText(snapshotId === '' ? volumeId : snapshotId, 'volume_id'),
        startingOffset: request.starting_offset,
        expectedState: request.expected_state,
      });
      for await (const step of steps) yield exportMessage(step);
    },
  };
}

function parseImport(request: ImportVolumeRequest): ImportInput {
  const { size_bytes: sizeBytes, fs_type: fsType, block } = request;
  if (sizeBytes < 0n) throw new VolumeError('invalid', 'size_bytes must not be negative');
  const known = fsTypes.find((type) => type === fsType);
  if (fsType !== '' && known === undefined) {
    throw new VolumeError(
      'invalid',
      `fs_type '${fsType.slice(0, 64)}' is unknown; use one of ${fsTypes.join(', ')}`,
    );
  }
  if (block && (known !== undefined || request.keep_uuid)) {
    throw new VolumeError(
      'invalid',
      'block cannot be combined with fs_type and keep_uuid: a block volume has no filesystem of the driver',
    );
  }
  return {
    name: requireText(request.name, 'name'),
    sizeBytes,
    fsType: known,
    block,
    keepsUuid: request.keep_uuid,
    parameters: request.parameters,
  };
}

async function* chunksOf(steps: AsyncIterator<ImportStreamRequest>): ImageChunks {
  for (;;) {
    const next = await steps.next();
    if (next.done === true) return;
    const message = next.value;
    if (message.step === 'data') {
      const { offset, data } = message.data;
      yield { offset, data };
    } else if (message.step === 'end') yield { endBytes: message.end.image_bytes };
    else {
      throw new VolumeError(
        'invalid',
        "each message of the stream after the first must have 'data' or 'end'",
      );
    }
  }
}

function importMessage(answer: ImportAnswer): ImportVolumeResponse {
  return {
    volume: answer.facts === undefined ? null : adminVolumeMessage(answer.facts),
    existed: answer.existed,
    directory: answer.isDirectory,
    fs_type: answer.fsType ?? '',
    size_bytes: answer.sizeBytes,
    data_bytes: answer.dataBytes,
    entries: answer.entries,
  };
}

type ExportStep =
  ReturnType<Administration['exportImage']> extends AsyncIterable<infer Step> ? Step : never;

function exportMessage(step: ExportStep): ExportImageResponse {
  if (!('start' in step)) return { start: null, offset: step.offset, data: step.data };
  const { start } = step;
  return {
    start: {
      size_bytes: start.sizeBytes,
      allocated_bytes: start.allocatedBytes,
      state: start.state,
      fs_type: start.fsType ?? '',
      sector_size: start.sectorSize,
      name: start.name,
      frozen_ms: BigInt(start.frozenMs),
    },
    offset: 0n,
    data: Buffer.alloc(0),
  };
}
