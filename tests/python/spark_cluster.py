"""A Spark cluster of two workers in one JVM, so that tasks fail, are run again and are run twice as on a real one.

`local-cluster` will not do: all of its workers are of one host, and Spark never runs a copy of a task where the task itself runs.
"""

import os
import sys

import pyarrow as pa
from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession

HOSTS = ("127.0.0.1", "127.0.0.2")
WORKER_MIB = 600
SETTINGS = {
    "spark.driver.bindAddress": HOSTS[0],
    "spark.driver.host": HOSTS[0],
    "spark.driver.memory": "1g",
    "spark.executor.cores": "1",
    "spark.executor.memory": "512m",
    "spark.sql.shuffle.partitions": "2",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    # A copy of a task that has taken longer than others, looked for ten times a second.
    "spark.speculation": "true",
    "spark.speculation.interval": "100ms",
    "spark.speculation.minTaskRuntime": "2s",
    "spark.speculation.multiplier": "3",
    "spark.speculation.quantile": "0.5",
}


class Cluster:
    """`session` is the SparkSession; `folder` is for what workers write."""

    def __init__(self, folder):
        os.environ |= {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": HOSTS[0]}
        conf = SparkConf().setAll(SETTINGS.items()).set("spark.sql.warehouse.dir", str(folder / "warehouse"))
        self.gateway = launch_gateway(conf)
        deploy, scala = self.gateway.jvm.org.apache.spark.deploy, self.gateway.jvm.scala
        java_conf = self.gateway.jvm.org.apache.spark.SparkConf(False)
        master = deploy.master.Master.startRpcEnvAndEndpoint(HOSTS[0], 0, 0, java_conf)._1()
        url = f"spark://{master.address().hostPort()}"
        urls = self.gateway.new_array(self.gateway.jvm.String, 1)
        urls[0] = url
        self.environments = [master] + [
            deploy.worker.Worker.startRpcEnvAndEndpoint(
                host, 0, 0, 1, WORKER_MIB, urls, str(folder / "work"), scala.Some(number), java_conf, scala.Option.empty()
            )
            for number, host in enumerate(HOSTS)
        ]
        context = SparkContext(conf=conf.setMaster(url).setAppName("tests"), gateway=self.gateway)
        context.setLogLevel("OFF")
        self.session = SparkSession(context)

    def stop(self):
        self.session.stop()
        for environment in reversed(self.environments):
            environment.shutdown()
        self.gateway.shutdown()
        self.gateway.proc.stdin.close()
        self.gateway.proc.wait()

    def frame(self, table: pa.Table, partitions=2):
        return self.session.createDataFrame(table).repartition(partitions)
