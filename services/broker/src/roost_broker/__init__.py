"""Users, pools, entitlements, sessions and launch tickets."""
