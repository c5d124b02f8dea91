from restore.models import NetworkSpec


def variant_of(spec: NetworkSpec) -> NetworkSpec:
    """The same DnCNN as one that has more options."""
    return NetworkSpec("DnCNNVariant", spec.arguments)
