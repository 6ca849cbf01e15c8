import type { Volumes } from '../../src/volumes/api.ts';
import type { DockerVolumes } from '../../src/volumes/docker/volumes.ts';
import type { Domain } from '../../src/volumes/domain.ts';
import type { OpenedVolumes } from '../../src/volumes/open.ts';

/** A driver without a server, which a test can close and open again, as a new process would. */
export class RestartableDriver {
  #opened: OpenedVolumes;

  constructor(opened: OpenedVolumes) {
    this.#opened = opened;
  }

  get volumes(): Volumes {
    return this.#opened.volumes;
  }

  get docker(): DockerVolumes {
    return this.#opened.docker;
  }

  get domain(): Domain {
    return this.#opened.domain;
  }

  get administration(): OpenedVolumes['administration'] {
    return this.#opened.administration;
  }

  /** Closes it as SIGTERM does. */
  async close(): Promise<void> {
    await this.#opened.close(1_000);
  }

  /** `whileClosed` runs before it is opened again; it simulates a reboot, for example. */
  async reopen(
    open: () => Promise<OpenedVolumes>,
    whileClosed: () => Promise<void> = async () => undefined,
  ): Promise<void> {
    await this.close();
    await whileClosed();
    this.#opened = await open();
  }
}
