import type { Subject } from '../defect.ts';

export const devices: Subject = {
  title: 'Devices and their images',
  rows: [
    {
      name: 'an unstage detaches a device that is mounted elsewhere',
      file: 'volumes/node/unstage.ts',
      find: 'if (mounts.length > 0)',
      replace: 'if (mounts.length < 0)',
      tests: ['volumes/node/staging'],
    },
    {
      name: 'a start detaches a mounted device',
      file: 'volumes/recovery/recover-devices.ts',
      find: /if \(!ownMounts\.every\([^;]*\)\)\s+return [^;]*;/,
      replace: '',
      tests: ['volumes/recovery/start'],
    },
    {
      name: 'an image is attached twice',
      file: 'volumes/attachment/attach.ts',
      find: /if \(isOurs && [^{]*\{[^}]*return readWrite;\s*\}/,
      replace: '',
      tests: ['volumes/attachment/failed-mount'],
    },
    {
      name: 'the device node of another volume is taken for the lost one of this volume',
      file: 'volumes/attachment/device-binds.ts',
      find: /if \(await isAttachedTo\([^;)]*\)\) return undefined;/,
      replace: ';',
      tests: ['volumes/attachment/lost-device'],
    },
    {
      name: 'a detach that other software requested is not cancelled',
      file: 'volumes/attachment/watch-devices.ts',
      find: /if \(!\(await \w+\.host\.loops\.clearAutoclear\(device\)\)\) return;/,
      replace: '',
      tests: ['volumes/jobs/open-devices'],
    },
    {
      name: 'ids with the same beginning have the same label',
      file: 'host/loop/status.ts',
      find: /const hash = createHash\([^;]*;/,
      replace: "const hash = '';",
      tests: ['volumes/attachment/labels'],
    },
    {
      name: 'a shortened label is trusted whatever directory the image is in',
      file: 'volumes/attachment/attachment-for-teardown.ts',
      find: /(if \(entry !== undefined\) return )isEntryOf\([^;]*;/,
      replace: '$1true;',
      tests: ['volumes/attachment/labels'],
    },
    {
      name: 'an image is known by its inode number alone',
      file: 'host/loop/status.ts',
      find: /return (\w+)\.device === (\w+)\.device && (\1\.inode === \2\.inode;)/,
      replace: 'return $3',
      tests: ['host/loop/status'],
    },
    {
      name: 'a volume that is mounted is deleted',
      file: 'volumes/volume/delete.ts',
      find: 'if (mounts.length > 0)',
      replace: 'if (mounts.length < 0)',
      tests: ['volumes/node/staging'],
    },
    {
      name: 'a volume that is in use in another mount namespace is deleted',
      file: 'volumes/volume/delete.ts',
      find: /if \(await [\w.]+\.isInUse\([^)]*\)\) \{/,
      replace: 'if (false) {',
      tests: ['volumes/attachment/failed-mount'],
    },
    {
      name: 'a label alone makes a device ours',
      file: 'volumes/attachment/attachment-for-teardown.ts',
      find: /const path = await [\w.]+\.backingPath\([^;]*;/,
      replace: "const path = ' (deleted)';",
      tests: ['volumes/attachment/two-drivers'],
    },
    {
      name: "a device on another driver's image is ours",
      file: 'volumes/attachment/attachment-for-teardown.ts',
      find: /(if \(isOnImage\([^;]*\) return )false;/,
      replace: '$1true;',
      tests: ['volumes/attachment/two-drivers'],
    },
    {
      name: 'a filesystem is checked while it is in use',
      file: 'volumes/attachment/prepare-image.ts',
      find: /if \(await [\w.]+\.isInUse\([^;]*\) return false;/,
      replace: '',
      tests: ['volumes/attachment/error-flag'],
    },
    {
      name: 'a damaged filesystem is mounted',
      file: 'volumes/attachment/prepare-image.ts',
      find: /if \(result\.outcome === 'damaged'\) throw [^;]*;/,
      replace: '',
      tests: ['volumes/attachment/error-flag'],
    },
    {
      name: 'an image without a valid superblock is formatted',
      file: 'volumes/attachment/prepare-image.ts',
      find: /if \(superblock === undefined\) throw \w+\(volume, filesystem\.type\);/,
      replace: `if (superblock === undefined) {
        const { sectorSize, fsUuid: uuid, mkfsOptions } = record;
        await filesystem.make(imagePath, { sectorSize, thick: false, uuid, options: mkfsOptions });
        return await prepareImage(domain, volume, options);
      }`,
      tests: ['volumes/attachment/error-flag'],
    },
    {
      name: 'a truncated image is grown with zeros',
      file: 'volumes/attachment/prepare-image.ts',
      find: 'reachedBytes !== undefined && image.sizeBytes < reachedBytes',
      replace: 'reachedBytes === 0n',
      tests: ['volumes/attachment/reached-size'],
    },
    {
      name: 'the changes of a killed program are not undone',
      file: 'host/filesystem/ext4/undo-log.ts',
      find: /await fsCall\([^,]*, 'write', this\.#imagePath,[^;]*;/,
      replace: '',
      tests: ['integration/killed-programs'],
    },
    {
      name: 'a detach is not verified',
      file: 'host/loop/devices.ts',
      find: /if \(await waitUntilDetached\([^;]*\) return true;/,
      replace: 'return true;',
      tests: ['integration/host/loop/devices'],
    },
    {
      name: 'a device gets a number whose node is bound somewhere',
      file: 'host/loop/numbers.ts',
      find: /(!this\.#claimed\.has\(\w+\)) && !bound\.has\(\w+\);/,
      replace: '$1;',
      tests: ['integration/host-contract'],
    },
  ],
};
