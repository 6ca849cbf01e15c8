import { hasErrno } from '../../src/host/errors.ts';
import type { Freeze, LoopDevice } from '../../src/host/host.ts';
import { scaledMs } from '../helpers/slowness.ts';
import {
  attached,
  type CaseContext,
  type ContractCase,
  errnoOf,
  makeImage,
  mounted,
} from './contract-case.ts';

/** A freeze with a short time limit. FIFREEZE has to end before it, so the limit is longer if the disk is busy. */
async function freezeBriefly(
  { host }: CaseContext,
  target: { readonly target: string; readonly device: LoopDevice },
): Promise<Freeze> {
  let timeoutMs = 150;
  for (const giveUpAt = performance.now() + scaledMs(30_000); ; ) {
    try {
      return await host.freezer.freeze([target], { timeoutMs });
    } catch (error) {
      // EBUSY: the FIFREEZE that was too slow has not been undone yet.
      if (!hasErrno(error, 'ETIMEDOUT', 'EBUSY') || performance.now() > giveUpAt) throw error;
      if (hasErrno(error, 'ETIMEDOUT')) timeoutMs *= 2;
    }
  }
}

export const freezeCases: readonly ContractCase[] = [
  {
    name: 'freezer: a second freeze is refused, and a thaw ends the first',
    run: async (context) => {
      const { host, equal } = context;
      const path = await makeImage(context, 'a');
      await attached(context, path, (device) =>
        mounted(context, device, async (target) => {
          const freeze = await host.freezer.freeze([{ target, device }], { timeoutMs: 10_000 });
          equal(
            await errnoOf(host.freezer.freeze([{ target, device }], { timeoutMs: 10_000 })),
            'EBUSY',
          );
          const frozenMs = await freeze.thaw();
          equal(frozenMs >= 0 && frozenMs < 10_000, true);
          equal(await freeze.thaw(), frozenMs);
          equal(await host.mounts.thaw(target, device), false);
        }),
      );
    },
  },
  {
    name: 'freezer: a target on another filesystem is refused, and nothing is frozen',
    run: async (context) => {
      const { host, directory, equal } = context;
      const path = await makeImage(context, 'a');
      await attached(context, path, (device) =>
        mounted(context, device, async (target) => {
          const targets = [
            { target, device },
            { target: directory, device },
          ];
          equal(await errnoOf(host.freezer.freeze(targets, { timeoutMs: 10_000 })), 'ENODEV');
          equal(await host.mounts.thaw(target, device), false);
        }),
      );
    },
  },
  {
    name: 'freezer: a freeze ends at its time limit, and its thaw reports that',
    run: async (context) => {
      const { host, equal } = context;
      const path = await makeImage(context, 'a');
      await attached(context, path, (device) =>
        mounted(context, device, async (target) => {
          const freeze = await freezeBriefly(context, { target, device });
          // A second freeze is refused until the first one ends at its time limit.
          const giveUpAt = performance.now() + scaledMs(10_000);
          for (;;) {
            const second = await host.freezer
              .freeze([{ target, device }], { timeoutMs: 10_000 })
              .catch((error: unknown) => {
                if (!hasErrno(error, 'EBUSY') || performance.now() > giveUpAt) throw error;
                return undefined;
              });
            if (second === undefined) continue;
            await second.thaw();
            break;
          }
          equal(await errnoOf(freeze.thaw()), 'ETIMEDOUT');
        }),
      );
    },
  },
];
