/** The way to the API server, with the client's own reader of credentials. */
import { KubeConfig } from "@kubernetes/client-node";

export class Connection {
  readonly #kubeconfig: string | undefined;
  #current: KubeConfig | undefined;

  /** `kubeconfig`: a file; undefined: a pod's own credentials, whose token the client reads again each minute. */
  constructor(kubeconfig: string | undefined) {
    this.#kubeconfig = kubeconfig;
  }

  get current(): KubeConfig {
    return this.#current ?? this.renew();
  }

  /** Where this daemon's own objects are: the pod's namespace, or the one that the file names. */
  get namespace(): string {
    return this.current.getContextObject(this.current.getCurrentContext())?.namespace ?? "default";
  }

  /** Reads the file again, as it may have been renewed. What cannot be read leaves the credentials as they are. */
  renew(): KubeConfig {
    const next = new KubeConfig();
    try {
      if (this.#kubeconfig === undefined) next.loadFromCluster();
      else next.loadFromFile(this.#kubeconfig);
    } catch (error) {
      if (this.#current === undefined) throw error;
      return this.#current;
    }
    this.#current = next;
    return next;
  }
}
