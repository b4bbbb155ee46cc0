/** The rights of the Redis user for tests, as given in docs/redis.md. */

/** For one server, or behind Sentinels. */
export const aclRules =
  '~{easel}* resetchannels &{easel}* -@all +@read +@write +@connection +@transaction +@scripting +@pubsub +@blocking -@admin -@dangerous +info +time'

/** For the nodes of a Redis Cluster, where clients must ask which node has a key. */
export const clusterAclRules = `${aclRules} +cluster|slots +cluster|info`
