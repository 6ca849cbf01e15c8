import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import * as v from 'valibot';

/**
 * Every command that a page shows installs its prerequisites on a machine that has only Node: it goes through scripts/bootstrap,
 * or it is listed here with the reason why not.
 */
const root = join(import.meta.dirname, '..', '..', '..', '..');
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

/** Run by other scripts of package.json, or by scripts/run-tests.ts, after the bootstrap; no page shows them. */
const innerScripts: Readonly<Record<string, string>> = {
  'check:all': 'npm run check',
  'check:format': 'npm run check',
  'check:generated': 'npm run check',
  'check:tidy': 'npm run check',
  compile: 'npm run check, and the Dockerfile, which has Node and npm packages',
  'docs:all': 'npm run docs',
  'generate:all': 'npm run generate',
  lint: 'npm run check',
  'test:cluster-volumes': 'npm run test:swarm-csi',
  'test:daemons': 'npm run test:docker',
  'test:pods': 'npm run test:cri',
};

/** Commands of pages that do not go through the bootstrap. */
const bareCommands: Readonly<Record<string, string>> = {
  'bash .ci/run': 'each of its parts goes through the bootstrap',
  'sh scripts/docker-plugin.sh':
    'runs beside a Docker of version 23 or later, which no package has; says so without one',
};

const pages = [
  'README.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  'SUPPORT.md',
  'charts/loopcsi/README.md',
  ...readdirSync(join(root, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];

const { scripts } = v.parse(
  v.object({ scripts: v.record(v.string(), v.string()) }),
  JSON.parse(read('package.json')),
);
const bootstrap = read('scripts/bootstrap');
const profiles = (/^ {4}([a-z\d]+(?: \| [a-z\d]+)+)\) ;;$/m.exec(bootstrap)?.[1] ?? '').split(
  ' | ',
);
const throughBootstrap = new RegExp(`^(?:exec )?sh scripts/bootstrap (?:${profiles.join('|')})\\b`);

test('the bootstrap has the profiles that its own text explains', (t) => {
  t.true(profiles.length >= 6, profiles.join(' '));
  for (const profile of profiles) t.regex(bootstrap, new RegExp(`^# {3}${profile} +`, 'm'));
});

test('every script of package.json runs through the bootstrap, or is an inner script of one that does', (t) => {
  const bare = Object.entries(scripts).flatMap(([name, command]) =>
    command.split(' && ').every((part) => throughBootstrap.test(part)) ? [] : [name],
  );
  t.deepEqual(bare.sort(), Object.keys(innerScripts).sort());
});

test('every inner script is run by another script', (t) => {
  const callers = [Object.values(scripts).join('\n'), read('Dockerfile')].join('\n');
  for (const name of Object.keys(innerScripts)) {
    const suite = name.replace(/^test:/, '');
    const isRun = new RegExp(`npm run (?:--silent )?${name}\\b|run-tests\\.js .*\\b${suite}\\b`);
    t.regex(callers, isRun, name);
  }
});

interface Command {
  readonly page: string;
  readonly text: string;
}

/** Lines of code blocks and spans of code that contain one of these commands, from the command on. */
const starts =
  /(?:(?:exec )?sh (?:scripts|contrib)\/\S+|bash \.ci\/run|npm (?:run \S+|[a-z]+)|npx \S+|node (?:--\S+ )*dist\/\S+).*/;

function commandsOf(page: string): readonly Command[] {
  const text = read(page);
  const blocks = [...text.matchAll(/```\w*\n([^]*?)```/g)].flatMap(([, block = '']) =>
    block.split('\n'),
  );
  const spans = [...text.replaceAll(/```[^]*?```/g, '').matchAll(/`([^`\n]+)`/g)];
  const pieces = [...blocks, ...spans.map(([, span = '']) => span)];
  return pieces
    .flatMap((piece) => piece.replace(/\s#.*$/, '').split(/ && |; /))
    .flatMap((piece) => {
      const found = starts.exec(piece)?.[0].trim();
      return found === undefined ? [] : [{ page, text: found }];
    });
}

/** The script of package.json that an npm command runs. */
function scriptOf(command: string): string | undefined {
  const [, run, short] = /^npm (?:run (\S+)|(test|start)\b)/.exec(command) ?? [];
  return run ?? short;
}

const commands = pages.flatMap(commandsOf);

test('pages contain commands of every kind that this test looks for', (t) => {
  const texts = commands.map(({ text }) => text);
  for (const one of [
    'npm test',
    'npm start',
    'npm run test:e2e',
    'npm run cluster -- up DIRECTORY',
  ]) {
    t.true(texts.includes(one), one);
  }
  t.true(texts.some((text) => text.startsWith('sh scripts/bootstrap run sh contrib/install')));
});

test('every command of a page sets up what it needs', (t) => {
  const unprepared = commands.filter(({ text }) => {
    if (throughBootstrap.test(text)) return false;
    if (Object.keys(bareCommands).some((bare) => text.startsWith(bare))) return false;
    const script = scriptOf(text);
    return script === undefined || !(script in scripts) || script in innerScripts;
  });
  t.deepEqual(unprepared, []);
});

test('every command that needs no setup is shown by a page', (t) => {
  const isShown = (bare: string): boolean => commands.some(({ text }) => text.startsWith(bare));
  t.deepEqual(
    Object.keys(bareCommands).filter((bare) => !isShown(bare)),
    [],
  );
});
