/** Steps of other software, which uses the driver's devices and mounts without its knowledge. */

import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { StopUse } from '../helpers/other-software.ts';
import { devicesOf, foreignMark, idOf, stagingOf, targetOf } from './comparison.ts';
import type { State } from './model.ts';
import type { OtherSoftwareStep, TargetName, VolumeName } from './steps.ts';
import type { Subject } from './subject.ts';

const maxForeignDevices = 2;
const foreignBytes = 2 * 1024 * 1024;

/** Devices and files that other software has open, mounted and attached. */
export class OtherSoftwareSteps {
  readonly #subject: Subject;
  readonly #held: StopUse[] = [];
  readonly #foreign: { readonly number: number; readonly image: string }[] = [];

  constructor(subject: Subject) {
    this.#subject = subject;
  }

  async step(step: OtherSoftwareStep, state: State): Promise<void> {
    switch (step.do) {
      case 'open':
        return this.#open(step, state);
      case 'openFile':
        return this.#openFile(step.target, state);
      case 'mountElsewhere':
        return this.#mountElsewhere(step.v, state);
      case 'clear':
        return this.#clear(step, state);
      case 'attachAgain':
        return this.#attachAgain(step.v, state);
      case 'takeNumber':
        return this.#takeNumber();
      case 'stopUse':
        return this.stopUse(state);
    }
  }

  async stopUse(state: State): Promise<void> {
    for (const stopUse of this.#held.splice(0)) await stopUse();
    state.openTargets.clear();
    for (const { otherSoftware } of state.volumes.values()) otherSoftware.isInUse = false;
  }

  /** A device of other software that the driver detached. */
  async missing(): Promise<string | undefined> {
    const { files, loops } = this.#subject.host;
    for (const { number, image } of this.#foreign) {
      const devices = await loops.findByImage(await files.imageStatus(image));
      if (devices.length !== 1 || devices[0]?.number !== number) {
        return `the driver detached loop${number} from ${image}, which belongs to other software`;
      }
    }
    return undefined;
  }

  async end(state: State): Promise<void> {
    await this.stopUse(state);
    for (const { number } of this.#foreign.splice(0)) {
      await this.#subject.otherSoftware.clearDevice(number);
    }
  }

  async #open({ v, readOnly }: OtherSoftwareStep & { do: 'open' }, state: State): Promise<void> {
    const device = (await devicesOf(this.#subject, v)).find((one) => one.readOnly === readOnly);
    const volume = state.volumes.get(v);
    if (device === undefined || volume === undefined) return;
    this.#held.push(await this.#subject.otherSoftware.openDevice(device.number));
    volume.otherSoftware.isInUse = true;
  }

  async #openFile(target: TargetName, state: State): Promise<void> {
    const found = [...state.volumes.values()].find(({ targets }) => targets.has(target));
    if (found === undefined || found.targets.get(target)?.isLost === true) return;
    this.#held.push(await this.#subject.otherSoftware.openFile(targetOf(this.#subject, target)));
    state.openTargets.add(target);
    // The target is a device node, so opening it opens the device.
    if (found.kind === 'block') found.otherSoftware.isInUse = true;
  }

  async #mountElsewhere(v: VolumeName, state: State): Promise<void> {
    const volume = state.volumes.get(v);
    if (volume?.staged === undefined || volume.kind === 'block') return;
    const target = stagingOf(this.#subject, v);
    this.#held.push(await this.#subject.otherSoftware.mountElsewhere(target));
    volume.otherSoftware.isInUse = true;
  }

  async #clear({ v, readOnly }: OtherSoftwareStep & { do: 'clear' }, state: State): Promise<void> {
    const device = (await devicesOf(this.#subject, v)).find((one) => one.readOnly === readOnly);
    const volume = state.volumes.get(v);
    if (device === undefined || volume === undefined) return;
    volume.otherSoftware.cleared.add(readOnly);
    await this.#subject.otherSoftware.clearDevice(device.number);
  }

  async #attachAgain(v: VolumeName, state: State): Promise<void> {
    const found = this.#subject.opened().domain.pools.findVolume(idOf(this.#subject, v));
    const volume = state.volumes.get(v);
    if (found === undefined || volume === undefined || volume.otherSoftware.spareDevices > 0)
      return;
    await this.#subject.otherSoftware.attach(found.imagePath);
    volume.otherSoftware.spareDevices += 1;
  }

  async #takeNumber(): Promise<void> {
    if (this.#foreign.length === maxForeignDevices) return;
    const image = join(this.#subject.directory, `foreign-${this.#foreign.length}.img`);
    await writeFile(image, '');
    await truncate(image, foreignBytes);
    await this.#subject.marks.writeForeign(image, foreignMark);
    this.#foreign.push({ image, number: await this.#subject.otherSoftware.attach(image) });
  }
}
