import test from 'ava';
import { parseAgents } from '../../../../src/controller/discovery/agents-option.ts';

const valid = [
  ['static:10.0.0.1:9737', { kind: 'static', addresses: ['10.0.0.1:9737'] }],
  ['static:n1:1,[fd00::1]:65535', { kind: 'static', addresses: ['n1:1', '[fd00::1]:65535'] }],
  ['dns://tasks.loopcsi', { kind: 'dns', name: 'tasks.loopcsi', port: 9737 }],
  ['dns://agents.example.:21', { kind: 'dns', name: 'agents.example.', port: 21 }],
  [
    'dns://_loopcsi._tcp.service.consul',
    { kind: 'dns', name: '_loopcsi._tcp.service.consul', port: 9737 },
  ],
  [
    'endpointslices://storage/r1-agents',
    { kind: 'endpointslices', namespace: 'storage', service: 'r1-agents' },
  ],
] as const;
for (const [text, expected] of valid) {
  test(`--agents ${text}`, (t) => {
    t.deepEqual(parseAgents(text), expected);
  });
}

const invalid = [
  '',
  'static:',
  'static:n1',
  'static:n1:0',
  'static:n1:65536',
  'static:n1:1,',
  'static:n1:1,n1:1',
  'static:fd00::1:9737',
  'dns://',
  'dns://a:0',
  'dns://a:70000',
  'dns://a/b',
  'dns://a b',
  'endpointslices://storage',
  'endpointslices://storage/',
  'endpointslices://a/b/c',
  'endpointslices://A/b',
  'http://a',
] as const;
for (const text of invalid) {
  test(`--agents '${text}' is refused with the forms that are valid`, (t) => {
    t.throws(() => parseAgents(text), {
      name: 'VolumeError',
      message: /^--agents: .*; use static:HOST:PORT/,
    });
  });
}
