import { Failure } from './programs.ts';

/** Parts of an image's full name, as the chart's values take them. */
export interface ImageName {
  readonly registry: string;
  readonly repository: string;
  readonly tag: string;
}

const pattern = /^([a-z0-9][a-z0-9._/:-]*?)(?::([A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?$/;

/**
 * A name without a registry gets `localhost`. Otherwise a container runtime would complete it with `docker.io/library`, and a node
 * that lacks the image would search for it there. Throws a Failure if the text is not a name.
 */
export function parseImageName(text: string, defaultTag: string): ImageName {
  // A colon before the last slash separates a registry from its port.
  const [, path = '', tag = defaultTag] = pattern.exec(text) ?? [];
  const [first = '', ...rest] = path.split('/');
  const hasRegistry = rest.length > 0 && (first === 'localhost' || /[.:]/.test(first));
  const repository = hasRegistry ? rest.join('/') : path;
  if (!/^[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:\/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*$/.test(repository)) {
    throw new Failure(
      `--tag '${text}' is not a name of an image: use [REGISTRY/]REPOSITORY[:TAG] in lower case, for example ghcr.io/me/loopcsi:1.0`,
    );
  }
  return { registry: hasRegistry ? first : 'localhost', repository, tag };
}

export const fullName = ({ registry, repository, tag }: ImageName): string =>
  `${registry}/${repository}:${tag}`;

/** The command that installs the chart with the image. Pulling is disabled, so a node without the image says so. */
export function helmCommand({ registry, repository, tag }: ImageName): string {
  const values = [
    `image.registry=${registry}`,
    `image.repository=${repository}`,
    `image.tag=${tag}`,
    'image.pullPolicy=Never',
  ];
  return `helm upgrade --install loopcsi charts/loopcsi --namespace loopcsi --wait --set-string ${values.join(',')}`;
}
