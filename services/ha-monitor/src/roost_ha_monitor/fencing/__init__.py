"""Making sure that a host is off, through ClusterLabs fence agents."""
