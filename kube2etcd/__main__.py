"""``python -m kube2etcd``: the same as the console script."""

from kube2etcd.cli import main

if __name__ == "__main__":
    main()
