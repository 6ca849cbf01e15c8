/**
 * Rules that linters miss, as pure functions over the files of the tree. Each returns one line for each problem.
 * `tidy.test.ts` runs them on the repository, `tidy-rules.test.ts` on small bad samples.
 */
import { dirname, join } from 'node:path';

export interface TreeFile {
  /** Relative to the repository, with `/`. */
  readonly path: string;
  readonly text: string;
}

/** The file without its comments, so that comments may mention forbidden code. */
function codeOf({ text }: TreeFile): string {
  return text
    .split('\n')
    .map((line) => (/^\s*(?:\/\/|\/?\*)/.test(line) ? '' : line.replace(/\s\/\/ .*$/, '')))
    .join('\n');
}

/** One problem, with its line number, for each line of code that matches `pattern` in a file to which the rule applies. */
function where(
  files: readonly TreeFile[],
  rule: { applies: (path: string) => boolean; pattern: RegExp; says: string },
): readonly string[] {
  return files
    .filter(({ path }) => rule.applies(path))
    .flatMap((file) =>
      codeOf(file)
        .split('\n')
        .flatMap((line, index) =>
          rule.pattern.test(line) ? [`${file.path}:${index + 1}: ${rule.says}`] : [],
        ),
    );
}

const inSource = (path: string): boolean => path.startsWith('src/');
const isTypeScript = (path: string): boolean => path.endsWith('.ts');

/** The environment is read once, into the Config. */
export function environmentReads(files: readonly TreeFile[]): readonly string[] {
  return where(files, {
    applies: (path) => inSource(path) && path !== 'src/config/load.ts',
    pattern: /\bprocess\.env\b/,
    says: 'process.env is read in src/config/load.ts only',
  });
}

const doors = [
  {
    module: 'execa',
    allowed: /^src\/(?:host\/programs\/run|cli\/cluster\/kubectl)\.ts$/,
    door: 'src/host/programs/run.ts and src/cli/cluster/kubectl.ts',
  },
  { module: 'koffi', allowed: /^src\/host\/kernel\//, door: 'src/host/kernel/' },
  { module: 'node:child_process', allowed: /^src\/host\//, door: 'src/host/' },
] as const;

/** Programs and kernel calls are each started from one module or folder only. */
export function doorsPassed(files: readonly TreeFile[]): readonly string[] {
  return doors.flatMap(({ module, allowed, door }) =>
    where(files, {
      applies: (path) => inSource(path) && !allowed.test(path),
      pattern: new RegExp(`(?:from|import)\\s*\\(?\\s*'${module}'`),
      says: `${module} is imported in ${door} only`,
    }),
  );
}

/** Modules of src/ that no other file of src/ imports. `entries` are started from outside. */
export function orphans(files: readonly TreeFile[], entries: readonly string[]): readonly string[] {
  const modules = files.filter(({ path }) => inSource(path) && isTypeScript(path));
  const named = new Set(
    modules.flatMap((file) =>
      // Imports, and files started as a process: new URL('./freeze-child.js', import.meta.url).
      [...codeOf(file).matchAll(/'(\.{1,2}\/[\w./-]+)\.[jt]s'/g)].map(([, target = '']) =>
        join(dirname(file.path), `${target}.ts`),
      ),
    ),
  );
  return modules
    .filter(({ path }) => !named.has(path) && !entries.includes(path))
    .map(({ path }) => `${path}: no module of src/ imports it`);
}

/** Functions that pass on a domain, or other dependencies, with a host in another lane. */
const lanePassers = [
  'recoverVolume',
  'withReason',
  'changeVolume',
  'withVolumeLock',
  'lockForTeardown',
  'changeIfHere',
  'operations\\.run',
];

/** A callback that ignores the domain it is given makes its kernel calls in the lane of its caller. */
export function droppedLanes(files: readonly TreeFile[]): readonly string[] {
  const call = new RegExp(
    `(?<!function )\\b(${lanePassers.join('|')})\\((?:(?!=>|;).)*?\\(\\) =>`,
    'g',
  );
  return files
    .filter(({ path }) => path.startsWith('src/volumes/'))
    .flatMap(({ path, text }) =>
      [...text.replace(/\s+/g, ' ').matchAll(call)].map(
        ([, name = '']) =>
          `${path}: the callback of ${name} ignores its domain; name the parameter, or call it _domain`,
      ),
    );
}

/** Each TODO names an issue. */
export function openEnds(files: readonly TreeFile[]): readonly string[] {
  return files.flatMap(({ path, text }) =>
    text.split('\n').flatMap((line, index) => {
      if (/\bFIXME\b|\bXXX\b/.test(line)) return [`${path}:${index + 1}: FIXME is never landed`];
      if (/\bTODO\b(?!\s*\(?#\d)/.test(line))
        return [`${path}:${index + 1}: TODO without an issue number, as in TODO #12`];
      return [];
    }),
  );
}

/** Modules of src/ need specific names. */
export function vagueNames(files: readonly TreeFile[]): readonly string[] {
  return files
    .filter(({ path }) => inSource(path))
    .filter(({ path }) => /(?:^|[/-])(?:utils?|helpers?|common|misc)(?:[-./]|$)/.test(path))
    .map(({ path }) => `${path}: name the thing; no utils, helpers, common or misc`);
}

/** No file depends on one machine or on the source of its packages. `/home/node` belongs to a user of Node's images. */
export function machineTraces(files: readonly TreeFile[]): readonly string[] {
  const traces = [
    {
      pattern: /(?:^|[\s'"`(=:])\/(?:work|root|Users|home(?!\/node\b))\/\w/,
      says: "a developer's path",
    },
    {
      pattern:
        /registry\.npmjs|\bpypi\.org|pythonhosted|proxy\.golang|sum\.golang|deb\.debian\.org|crates\.io|"resolved":/,
      says: 'the host of a package registry',
    },
  ];
  return files.flatMap(({ path, text }) =>
    text
      .split('\n')
      .flatMap((line, index) =>
        traces
          .filter(({ pattern }) => pattern.test(line))
          .map(({ says }) => `${path}:${index + 1}: ${says}`),
      ),
  );
}

/** A committed `.only` would disable all other tests of its file. */
export function focusedTests(files: readonly TreeFile[]): readonly string[] {
  return where(files, {
    applies: (path) => path.startsWith('test/'),
    pattern: /\btest(?:\.\w+)*\.only\(/,
    says: 'test.only hides the other tests of the file',
  });
}

/** A test file in a folder `alone` begins with a comment that says why it needs the machine for itself. */
export function aloneWithoutReason(files: readonly TreeFile[]): readonly string[] {
  return files
    .filter(({ path }) => /^test\/(?:.*\/)?alone\/.*\.test\.ts$/.test(path))
    .filter(({ text }) => !/^\/\*\*(?:(?!\*\/)[^])*\bAlone: /.test(text))
    .map(({ path }) => `${path}: the first comment has no reason, as in 'Alone: it measures…'`);
}

/** Versions in package.json must be exact, so that the manifest agrees with the lockfile. */
export function looseVersions(files: readonly TreeFile[]): readonly string[] {
  return files
    .filter(({ path }) => path === 'package.json')
    .flatMap(({ text }) =>
      [...text.matchAll(/^ {4}"(@?[a-z][\w./-]*)": "([~^*][^"]*|latest)",?$/gm)].map(
        ([, name = '', version = '']) => `package.json: ${name} ${version} is not an exact version`,
      ),
    );
}

/**
 * Compares names in the code with those that a page of docs lists in backquotes, as a heading or as the first cell of a table
 * row: `### \`no-space\`` or `| \`pool\` | …`. Both must have the same names.
 */
export function undocumented(
  names: readonly string[],
  page: TreeFile,
  what: string,
): readonly string[] {
  const listed = new Set(
    [...page.text.matchAll(/^(?:\||#{2,4})\s*`([^`]+)`/gm)].map(([, name = '']) => name),
  );
  return [
    ...names
      .filter((name) => !listed.has(name))
      .map((name) => `${page.path}: ${what} ${name} is not described`),
    ...[...listed]
      .filter((name) => !names.includes(name))
      .map((name) => `${page.path}: describes ${what} ${name}, which the code does not have`),
  ];
}

/** Metrics that docs/ does not describe, and metrics in docs/ that the driver does not have. */
export function undescribedMetrics(
  files: readonly TreeFile[],
  made: readonly string[],
): readonly string[] {
  const described = new Set(
    files
      .filter(({ path }) => /^docs\/.*\.md$/.test(path))
      .flatMap(({ text }) =>
        // A histogram has three series.
        [
          ...text.matchAll(
            /`((?:loopcsi|process|nodejs)_[a-z0-9_]+?)(?:_bucket|_sum|_count)?[`{]/g,
          ),
        ].map(([, name = '']) => name),
      ),
  );
  return [
    ...made.filter((name) => !described.has(name)).map((name) => `docs/: nothing on ${name}`),
    ...[...described]
      .filter((name) => !made.includes(name))
      .map((name) => `docs/: describes metric ${name}, which the driver does not make`),
  ];
}

/** Links of Markdown pages to missing files. Links to the web are not checked. */
export function deadLinks(
  files: readonly TreeFile[],
  paths: ReadonlySet<string>,
): readonly string[] {
  return files
    .filter(({ path }) => path.endsWith('.md'))
    .flatMap(({ path, text }) =>
      [...text.matchAll(/\]\((?!https?:|mailto:|#)([^)#\s]+)[^)]*\)/g)]
        .map(([, target = '']) => ({ target, file: join(dirname(path), target) }))
        .filter(({ file }) => ![...paths].some((one) => one === file || one.startsWith(`${file}/`)))
        .map(({ target }) => `${path}: ${target} is not there`),
    );
}
