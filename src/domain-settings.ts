import type { Config } from './config/load.ts';
import type { DomainSettings } from './volumes/domain.ts';
import { nodeTagOf } from './volumes/ids.ts';

/** What of the configuration the domain has to know. */
export function domainSettings(config: Config): DomainSettings {
  return {
    nodeTag: nodeTagOf(config.nodeId),
    defaultFsType: config.defaultFstype,
    defaultSizeBytes: config.defaultSize,
    ephemeral: {
      defaultBytes: config.ephemeralDefaultSize,
      maximumBytes: config.ephemeralMaxSize,
      poolCapBytes: config.ephemeralPoolCap,
    },
    kubeletDir: config.kubeletDir,
    maxVolumesPerNode: config.maxVolumes,
    guardFreezeLimitMs: config.guardFreezeLimit,
    withoutStaging: config.withoutStaging,
    mountDir: config.withoutStaging || config.dockerSocket ? config.mountDir : undefined,
  };
}
