import test from 'ava';
import { reasons, VolumeError } from '../../../src/errors.ts';
import { metricCodes } from '../../../src/observe/call-codes.ts';
import { codeName, toStatus } from '../../../src/rpc/status.ts';

test('metrics count each reason under its gRPC code', (t) => {
  for (const reason of reasons) {
    t.is<string, string>(
      metricCodes[reason],
      codeName(toStatus(new VolumeError(reason, 'a test')).code),
    );
  }
});
