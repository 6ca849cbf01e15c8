// Generated from csi-proto/loopcsi.proto by scripts/generate-csi.ts. Do not edit: change the proto, then `npm run generate`.

/** loopcsi.v1 as a protobufjs INamespace. The type is object, because INamespace lacks the keys of map fields. */
export const descriptor: object = {
  nested: {
    loopcsi: {
      nested: {
        v1: {
          nested: {
            Admin: {
              methods: {
                ListPools: { requestType: 'ListPoolsRequest', responseType: 'ListPoolsResponse' },
                InitPool: { requestType: 'InitPoolRequest', responseType: 'InitPoolResponse' },
                AdoptPool: { requestType: 'AdoptPoolRequest', responseType: 'AdoptPoolResponse' },
                ForgetPool: { requestType: 'ForgetPoolRequest', responseType: 'ForgetPoolResponse' },
                RecoverPool: { requestType: 'RecoverPoolRequest', responseType: 'RecoverPoolResponse' },
                GrowPool: { requestType: 'GrowPoolRequest', responseType: 'GrowPoolResponse' },
                ListVolumes: { requestType: 'ListVolumesRequest', responseType: 'ListVolumesResponse' },
                GetVolume: { requestType: 'GetVolumeRequest', responseType: 'GetVolumeResponse' },
                MountVolume: { requestType: 'MountVolumeRequest', responseType: 'MountVolumeResponse' },
                UnmountVolume: { requestType: 'UnmountVolumeRequest', responseType: 'UnmountVolumeResponse' },
                ExpandVolume: { requestType: 'ExpandVolumeRequest', responseType: 'ExpandVolumeResponse' },
                TrimVolume: { requestType: 'TrimVolumeRequest', responseType: 'TrimVolumeResponse' },
                ImportVolume: { requestType: 'ImportVolumeRequest', responseType: 'ImportVolumeResponse' },
                ImportStream: {
                  requestType: 'ImportStreamRequest',
                  requestStream: true,
                  responseType: 'ImportVolumeResponse',
                },
                ExportImage: {
                  requestType: 'ExportImageRequest',
                  responseType: 'ExportImageResponse',
                  responseStream: true,
                },
                ListSnapshots: { requestType: 'ListSnapshotsRequest', responseType: 'ListSnapshotsResponse' },
                GetSnapshot: { requestType: 'GetSnapshotRequest', responseType: 'GetSnapshotResponse' },
                WatchSnapshot: {
                  requestType: 'WatchSnapshotRequest',
                  responseType: 'WatchSnapshotResponse',
                  responseStream: true,
                },
                GetProgress: { requestType: 'GetProgressRequest', responseType: 'GetProgressResponse' },
                ListGroupSnapshots: { requestType: 'ListGroupSnapshotsRequest', responseType: 'ListGroupSnapshotsResponse' },
                MeasureVolumes: { requestType: 'MeasureVolumesRequest', responseType: 'MeasureVolumesResponse' },
                ListLeftovers: { requestType: 'ListLeftoversRequest', responseType: 'ListLeftoversResponse' },
                RemoveLeftovers: { requestType: 'RemoveLeftoversRequest', responseType: 'RemoveLeftoversResponse' },
                Doctor: { requestType: 'DoctorRequest', responseType: 'DoctorResponse' },
              },
            },
            ListPoolsRequest: { fields: {} },
            ListPoolsResponse: { fields: { pools: { rule: 'repeated', type: 'Pool', id: 1 } } },
            Pool: {
              fields: {
                name: { type: 'string', id: 1 },
                path: { type: 'string', id: 2 },
                state: { type: 'State', id: 3 },
                reason: { type: 'string', id: 4 },
                fs_type: { type: 'string', id: 5 },
                abilities: { type: 'PoolAbilities', id: 6 },
                total_bytes: { type: 'int64', id: 7 },
                free_bytes: { type: 'int64', id: 8 },
                promised_bytes: { type: 'int64', id: 9 },
                room_bytes: { type: 'int64', id: 10 },
                allocated_bytes: { type: 'int64', id: 11 },
                trash_bytes: { type: 'int64', id: 12 },
                volume_count: { type: 'int32', id: 13 },
                snapshot_count: { type: 'int32', id: 14 },
                node_tag: { type: 'string', id: 15 },
                uuid: { type: 'string', id: 16 },
                overcommit: { type: 'double', id: 17 },
                reserve_bytes: { type: 'int64', id: 18 },
                embedded: { type: 'bool', id: 19 },
                other_bytes: { type: 'int64', id: 20 },
                volume_bytes: { type: 'int64', id: 21 },
                snapshot_bytes: { type: 'int64', id: 22 },
                in_flight_bytes: { type: 'int64', id: 23 },
                blocks_bytes: { type: 'int64', id: 24 },
                held_back_bytes: { type: 'int64', id: 25 },
                never_read: { type: 'bool', id: 26 },
              },
              nested: { State: { values: { STATE_UNKNOWN: 0, SERVED: 1, UNAVAILABLE: 2 } } },
            },
            PoolAbilities: {
              fields: {
                reflink: { type: 'bool', id: 1 },
                direct_io: { type: 'bool', id: 2 },
                discard: { type: 'bool', id: 3 },
              },
            },
            InitPoolRequest: {
              fields: {
                name: { type: 'string', id: 1 },
                path: { type: 'string', id: 2 },
                embedded_size_bytes: { type: 'int64', id: 3 },
                force: { type: 'bool', id: 4 },
              },
            },
            InitPoolResponse: { fields: { pool: { type: 'Pool', id: 1 }, existed: { type: 'bool', id: 2 } } },
            AdoptPoolRequest: { fields: { name: { type: 'string', id: 1 } } },
            AdoptPoolResponse: { fields: { pool: { type: 'Pool', id: 1 } } },
            ForgetPoolRequest: {
              fields: {
                name: { type: 'string', id: 1 },
                path: { type: 'string', id: 2 },
                uuid: { type: 'string', id: 3 },
              },
            },
            ForgetPoolResponse: {
              fields: {
                path: { type: 'string', id: 1 },
                uuid: { type: 'string', id: 2 },
                volume_ids: { rule: 'repeated', type: 'string', id: 3 },
              },
            },
            RecoverPoolRequest: { fields: { name: { type: 'string', id: 1 } } },
            RecoverPoolResponse: { fields: { pool: { type: 'Pool', id: 1 } } },
            GrowPoolRequest: { fields: { name: { type: 'string', id: 1 }, size_bytes: { type: 'int64', id: 2 } } },
            GrowPoolResponse: { fields: { pool: { type: 'Pool', id: 1 } } },
            ListVolumesRequest: {
              fields: {
                max_entries: { type: 'int32', id: 1 },
                starting_token: { type: 'string', id: 2 },
                pool: { type: 'string', id: 3 },
                with_filesystem: { type: 'bool', id: 4 },
              },
            },
            ListVolumesResponse: {
              fields: { volumes: { rule: 'repeated', type: 'Volume', id: 1 }, next_token: { type: 'string', id: 2 } },
            },
            GetVolumeRequest: {
              fields: {
                volume_id: { type: 'string', id: 1 },
                with_users: { type: 'bool', id: 2 },
                with_filesystem: { type: 'bool', id: 3 },
              },
            },
            GetVolumeResponse: {
              fields: { volume: { type: 'Volume', id: 1 }, users: { rule: 'repeated', type: 'VolumeUser', id: 2 } },
            },
            VolumeUser: {
              fields: {
                name: { type: 'string', id: 1 },
                pid: { type: 'int32', id: 2 },
                container_id: { type: 'string', id: 3 },
              },
            },
            Volume: {
              oneofs: { source: { oneof: ['source_snapshot_id', 'source_volume_id'] } },
              fields: {
                volume_id: { type: 'string', id: 1 },
                name: { type: 'string', id: 2 },
                pool: { type: 'string', id: 3 },
                kind: { type: 'Kind', id: 4 },
                fs_type: { type: 'string', id: 5 },
                size_bytes: { type: 'int64', id: 6 },
                allocated_bytes: { type: 'int64', id: 7 },
                provisioning: { type: 'Provisioning', id: 8 },
                sector_size: { type: 'int32', id: 9 },
                created_at: { type: 'google.protobuf.Timestamp', id: 10 },
                source_snapshot_id: { type: 'string', id: 11 },
                source_volume_id: { type: 'string', id: 12 },
                staged_at: { rule: 'repeated', type: 'string', id: 13 },
                published_at: { rule: 'repeated', type: 'string', id: 14 },
                loop_device: { type: 'string', id: 15 },
                direct_io: { type: 'bool', id: 16 },
                ephemeral: { type: 'bool', id: 17 },
                problems: { rule: 'repeated', type: 'Problem', id: 18 },
                fs_uuid: { type: 'string', id: 19 },
                image_path: { type: 'string', id: 20 },
                owner: { type: 'VolumeOwner', id: 21 },
                pods: { rule: 'repeated', type: 'PublishedPod', id: 22 },
                mount_ids: { rule: 'repeated', type: 'string', id: 23 },
                reader_devices: { rule: 'repeated', type: 'string', id: 24 },
                trim: { type: 'string', id: 25 },
                io_limits: { type: 'IoLimits', id: 26 },
                filesystem: { type: 'FilesystemUsage', id: 27 },
              },
              nested: {
                Kind: { values: { KIND_UNKNOWN: 0, MOUNT: 1, BLOCK: 2 } },
                Provisioning: { values: { PROVISIONING_UNKNOWN: 0, THIN: 1, THICK: 2 } },
              },
            },
            IoLimits: {
              fields: {
                read_bytes_per_second: { type: 'int64', id: 1 },
                write_bytes_per_second: { type: 'int64', id: 2 },
                read_iops: { type: 'int64', id: 3 },
                write_iops: { type: 'int64', id: 4 },
              },
            },
            VolumeOwner: {
              fields: {
                namespace: { type: 'string', id: 1 },
                claim: { type: 'string', id: 2 },
                persistent_volume: { type: 'string', id: 3 },
                pod: { type: 'string', id: 4 },
              },
            },
            PublishedPod: {
              fields: {
                namespace: { type: 'string', id: 1 },
                name: { type: 'string', id: 2 },
                uid: { type: 'string', id: 3 },
                target_path: { type: 'string', id: 4 },
                published_at: { type: 'google.protobuf.Timestamp', id: 5 },
              },
            },
            Problem: {
              fields: {
                status: { type: 'Status', id: 1 },
                reason: { type: 'string', id: 2 },
                message: { type: 'string', id: 3 },
              },
              nested: { Status: { values: { STATUS_UNKNOWN: 0, DEGRADED: 1, INACCESSIBLE: 2, DATA_LOSS: 3 } } },
            },
            MountVolumeRequest: {
              fields: {
                volume_id: { type: 'string', id: 1 },
                target_path: { type: 'string', id: 2 },
                read_only: { type: 'bool', id: 3 },
                mount_flags: { rule: 'repeated', type: 'string', id: 4 },
              },
            },
            MountVolumeResponse: { fields: {} },
            UnmountVolumeRequest: { fields: { volume_id: { type: 'string', id: 1 }, target_path: { type: 'string', id: 2 } } },
            UnmountVolumeResponse: { fields: { target_paths: { rule: 'repeated', type: 'string', id: 1 } } },
            ExpandVolumeRequest: { fields: { volume_id: { type: 'string', id: 1 }, size_bytes: { type: 'int64', id: 2 } } },
            ExpandVolumeResponse: { fields: { volume: { type: 'Volume', id: 1 }, at_next_mount: { type: 'bool', id: 2 } } },
            TrimVolumeRequest: { fields: { volume_id: { type: 'string', id: 1 } } },
            TrimVolumeResponse: {
              fields: {
                allocated_before_bytes: { type: 'int64', id: 1 },
                allocated_after_bytes: { type: 'int64', id: 2 },
                discarded_bytes: { type: 'int64', id: 3 },
                interrupted: { type: 'bool', id: 4 },
                mounted_privately: { type: 'bool', id: 5 },
              },
            },
            ImportVolumeRequest: {
              fields: {
                name: { type: 'string', id: 1 },
                source_path: { type: 'string', id: 2 },
                size_bytes: { type: 'int64', id: 3 },
                fs_type: { type: 'string', id: 4 },
                block: { type: 'bool', id: 5 },
                parameters: { keyType: 'string', type: 'string', id: 6 },
                keep_uuid: { type: 'bool', id: 7 },
                dry_run: { type: 'bool', id: 8 },
              },
            },
            ImportVolumeResponse: {
              fields: {
                volume: { type: 'Volume', id: 1 },
                existed: { type: 'bool', id: 2 },
                directory: { type: 'bool', id: 3 },
                fs_type: { type: 'string', id: 4 },
                size_bytes: { type: 'int64', id: 5 },
                data_bytes: { type: 'int64', id: 6 },
                entries: { type: 'int64', id: 7 },
              },
            },
            ImportStreamRequest: {
              oneofs: { step: { oneof: ['start', 'data', 'end'] } },
              fields: {
                start: { type: 'ImportStreamStart', id: 1 },
                data: { type: 'ImportStreamData', id: 2 },
                end: { type: 'ImportStreamEnd', id: 3 },
              },
            },
            ImportStreamStart: {
              fields: { request: { type: 'ImportVolumeRequest', id: 1 }, image_bytes: { type: 'int64', id: 2 } },
            },
            ImportStreamData: { fields: { offset: { type: 'int64', id: 1 }, data: { type: 'bytes', id: 2 } } },
            ImportStreamEnd: { fields: { image_bytes: { type: 'int64', id: 1 } } },
            ExportImageRequest: {
              fields: {
                volume_id: { type: 'string', id: 1 },
                snapshot_id: { type: 'string', id: 2 },
                starting_offset: { type: 'int64', id: 3 },
                expected_state: { type: 'string', id: 4 },
              },
            },
            ExportImageResponse: {
              fields: {
                start: { type: 'ExportImageStart', id: 1 },
                offset: { type: 'int64', id: 2 },
                data: { type: 'bytes', id: 3 },
              },
            },
            ExportImageStart: {
              fields: {
                size_bytes: { type: 'int64', id: 1 },
                allocated_bytes: { type: 'int64', id: 2 },
                state: { type: 'string', id: 3 },
                fs_type: { type: 'string', id: 4 },
                sector_size: { type: 'int32', id: 5 },
                name: { type: 'string', id: 6 },
                frozen_ms: { type: 'int64', id: 7 },
              },
            },
            ListSnapshotsRequest: {
              fields: {
                max_entries: { type: 'int32', id: 1 },
                starting_token: { type: 'string', id: 2 },
                source_volume_id: { type: 'string', id: 3 },
                pool: { type: 'string', id: 4 },
              },
            },
            ListSnapshotsResponse: {
              fields: {
                snapshots: { rule: 'repeated', type: 'Snapshot', id: 1 },
                next_token: { type: 'string', id: 2 },
              },
            },
            GetSnapshotRequest: { fields: { snapshot_id: { type: 'string', id: 1 } } },
            GetSnapshotResponse: { fields: { snapshot: { type: 'Snapshot', id: 1 } } },
            Snapshot: {
              fields: {
                snapshot_id: { type: 'string', id: 1 },
                name: { type: 'string', id: 2 },
                source_volume_id: { type: 'string', id: 3 },
                pool: { type: 'string', id: 4 },
                size_bytes: { type: 'int64', id: 5 },
                allocated_bytes: { type: 'int64', id: 6 },
                created_at: { type: 'google.protobuf.Timestamp', id: 7 },
                ready: { type: 'bool', id: 8 },
                done_bytes: { type: 'int64', id: 9 },
                total_bytes: { type: 'int64', id: 10 },
                group_snapshot_id: { type: 'string', id: 11 },
                kind: { type: 'Volume.Kind', id: 12 },
                fs_type: { type: 'string', id: 13 },
                frozen_ms: { type: 'int64', id: 14 },
                owner: { type: 'SnapshotOwner', id: 15 },
                source_volume_name: { type: 'string', id: 16 },
              },
            },
            SnapshotOwner: {
              fields: {
                namespace: { type: 'string', id: 1 },
                volume_snapshot: { type: 'string', id: 2 },
                volume_snapshot_content: { type: 'string', id: 3 },
                volume_group_snapshot: { type: 'string', id: 4 },
              },
            },
            WatchSnapshotRequest: { fields: { snapshot_id: { type: 'string', id: 1 } } },
            WatchSnapshotResponse: {
              fields: {
                done_bytes: { type: 'int64', id: 1 },
                total_bytes: { type: 'int64', id: 2 },
                ready: { type: 'bool', id: 3 },
                error: { type: 'string', id: 4 },
              },
            },
            GetProgressRequest: { fields: { volume_name: { type: 'string', id: 1 }, snapshot_name: { type: 'string', id: 2 } } },
            GetProgressResponse: {
              fields: {
                done_bytes: { type: 'int64', id: 1 },
                total_bytes: { type: 'int64', id: 2 },
                volume_id: { type: 'string', id: 3 },
              },
            },
            ListGroupSnapshotsRequest: { fields: {} },
            ListGroupSnapshotsResponse: { fields: { group_snapshots: { rule: 'repeated', type: 'GroupSnapshot', id: 1 } } },
            GroupSnapshot: {
              fields: {
                group_snapshot_id: { type: 'string', id: 1 },
                name: { type: 'string', id: 2 },
                snapshot_ids: { rule: 'repeated', type: 'string', id: 3 },
                source_volume_ids: { rule: 'repeated', type: 'string', id: 4 },
                created_at: { type: 'google.protobuf.Timestamp', id: 5 },
                frozen_ms: { type: 'int64', id: 6 },
                owner: { type: 'SnapshotOwner', id: 7 },
              },
            },
            MeasureVolumesRequest: { fields: { pool: { type: 'string', id: 1 } } },
            MeasureVolumesResponse: {
              fields: {
                volumes: { rule: 'repeated', type: 'VolumeUsage', id: 1 },
                measured_ms: { type: 'double', id: 2 },
              },
            },
            VolumeUsage: {
              fields: {
                volume_id: { type: 'string', id: 1 },
                name: { type: 'string', id: 2 },
                pool: { type: 'string', id: 3 },
                size_bytes: { type: 'int64', id: 4 },
                allocated_bytes: { type: 'int64', id: 5 },
                filesystem: { type: 'FilesystemUsage', id: 6 },
                io: { type: 'VolumeIo', id: 7 },
                owner: { type: 'VolumeOwner', id: 8 },
              },
            },
            FilesystemUsage: { fields: { total_bytes: { type: 'int64', id: 1 }, used_bytes: { type: 'int64', id: 2 } } },
            VolumeIo: {
              fields: {
                reads: { type: 'int64', id: 1 },
                read_bytes: { type: 'int64', id: 2 },
                read_ms: { type: 'int64', id: 3 },
                writes: { type: 'int64', id: 4 },
                written_bytes: { type: 'int64', id: 5 },
                write_ms: { type: 'int64', id: 6 },
                busy_ms: { type: 'int64', id: 7 },
                in_flight: { type: 'int64', id: 8 },
              },
            },
            DoctorRequest: { fields: {} },
            DoctorResponse: { fields: { checks: { rule: 'repeated', type: 'Check', id: 1 } } },
            Check: {
              fields: {
                name: { type: 'string', id: 1 },
                state: { type: 'State', id: 2 },
                message: { type: 'string', id: 3 },
                remedy: { type: 'string', id: 4 },
              },
              nested: { State: { values: { STATE_UNKNOWN: 0, OK: 1, WARN: 2, FAIL: 3 } } },
            },
            ListLeftoversRequest: { fields: {} },
            ListLeftoversResponse: { fields: { leftovers: { rule: 'repeated', type: 'Leftover', id: 1 } } },
            Leftover: {
              fields: {
                kind: { type: 'string', id: 1 },
                path: { type: 'string', id: 2 },
                pool: { type: 'string', id: 3 },
                bytes: { type: 'int64', id: 4 },
                why: { type: 'string', id: 5 },
                remedy: { type: 'string', id: 6 },
              },
            },
            RemoveLeftoversRequest: { fields: { paths: { rule: 'repeated', type: 'string', id: 1 } } },
            RemoveLeftoversResponse: { fields: { results: { rule: 'repeated', type: 'RemovedLeftover', id: 1 } } },
            RemovedLeftover: { fields: { path: { type: 'string', id: 1 }, problem: { type: 'string', id: 2 } } },
            Nodes: {
              methods: {
                ListNodes: { requestType: 'ListNodesRequest', responseType: 'ListNodesResponse' },
                ForgetNode: { requestType: 'ForgetNodeRequest', responseType: 'ForgetNodeResponse' },
                RememberNode: { requestType: 'RememberNodeRequest', responseType: 'RememberNodeResponse' },
              },
            },
            ListNodesRequest: { fields: {} },
            ListNodesResponse: { fields: { nodes: { rule: 'repeated', type: 'ControlledNode', id: 1 } } },
            ControlledNode: {
              fields: {
                name: { type: 'string', id: 1 },
                tag: { type: 'string', id: 2 },
                state: { type: 'string', id: 3 },
                reason: { type: 'string', id: 4 },
                since: { type: 'google.protobuf.Timestamp', id: 5 },
                addresses: { rule: 'repeated', type: 'string', id: 6 },
                version: { type: 'string', id: 7 },
                pools: { rule: 'repeated', type: 'string', id: 8 },
                volume_count: { type: 'google.protobuf.Int64Value', id: 9 },
                forgotten_at: { type: 'google.protobuf.Timestamp', id: 10 },
              },
            },
            ForgetNodeRequest: {
              fields: {
                name: { type: 'string', id: 1 },
                force: { type: 'bool', id: 2 },
                addresses: { rule: 'repeated', type: 'string', id: 3 },
              },
            },
            ForgetNodeResponse: {
              fields: {
                tag: { type: 'string', id: 1 },
                was_forgotten: { type: 'bool', id: 2 },
                was_known: { type: 'bool', id: 3 },
              },
            },
            RememberNodeRequest: { fields: { name: { type: 'string', id: 1 } } },
            RememberNodeResponse: { fields: { tag: { type: 'string', id: 1 }, was_forgotten: { type: 'bool', id: 2 } } },
          },
        },
      },
    },
    google: {
      nested: {
        protobuf: {
          nested: {
            Int64Value: { fields: { value: { type: 'int64', id: 1 } } },
            Timestamp: { fields: { seconds: { type: 'int64', id: 1 }, nanos: { type: 'int32', id: 2 } } },
          },
        },
      },
    },
  },
};
