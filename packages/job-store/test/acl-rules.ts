/** The rights of the Redis user that tests connect as, as they stand in docs/redis.md. */

/** On one server, or behind Sentinels. */
export const aclRules =
  '~{easel}* resetchannels &{easel}* -@all +@read +@write +@connection +@transaction +@scripting +@pubsub +@blocking -@admin -@dangerous +info'

/** On the nodes of a Redis Cluster, where the way to a key must be asked for. */
export const clusterAclRules = `${aclRules} +cluster|slots +cluster|info`
