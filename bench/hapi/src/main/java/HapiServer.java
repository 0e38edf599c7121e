import ca.uhn.fhir.batch2.jobs.config.Batch2JobsConfig;
import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.IValidationSupport;
import ca.uhn.fhir.jpa.api.config.JpaStorageSettings;
import ca.uhn.fhir.jpa.api.config.ThreadPoolFactoryConfig;
import ca.uhn.fhir.jpa.api.dao.IFhirSystemDao;
import ca.uhn.fhir.jpa.batch2.JpaBatch2Config;
import ca.uhn.fhir.jpa.config.HapiJpaConfig;
import ca.uhn.fhir.jpa.config.r4.JpaR4Config;
import ca.uhn.fhir.jpa.config.util.HapiEntityManagerFactoryUtil;
import ca.uhn.fhir.jpa.model.config.PartitionSettings;
import ca.uhn.fhir.jpa.model.config.SubscriptionSettings;
import ca.uhn.fhir.jpa.model.dialect.HapiFhirH2Dialect;
import ca.uhn.fhir.jpa.provider.IJpaSystemProvider;
import ca.uhn.fhir.jpa.provider.JpaCapabilityStatementProvider;
import ca.uhn.fhir.jpa.search.DatabaseBackedPagingProvider;
import ca.uhn.fhir.jpa.subscription.channel.config.SubscriptionChannelConfig;
import ca.uhn.fhir.jpa.subscription.match.config.SubscriptionProcessorConfig;
import ca.uhn.fhir.jpa.subscription.match.deliver.email.IEmailSender;
import ca.uhn.fhir.jpa.subscription.submit.config.SubscriptionSubmitterConfig;
import ca.uhn.fhir.rest.server.RestfulServer;
import ca.uhn.fhir.rest.server.provider.ResourceProviderFactory;
import ca.uhn.fhir.rest.server.util.ISearchParamRegistry;
import com.zaxxer.hikari.HikariDataSource;
import jakarta.persistence.EntityManagerFactory;
import java.net.InetSocketAddress;
import java.util.Map;
import javax.sql.DataSource;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;
import org.springframework.beans.factory.config.ConfigurableListableBeanFactory;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Import;
import org.springframework.context.annotation.Primary;
import org.springframework.orm.jpa.JpaTransactionManager;
import org.springframework.orm.jpa.LocalContainerEntityManagerFactoryBean;
import org.springframework.transaction.annotation.EnableTransactionManagement;

/**
 * HAPI FHIR JPA R4 on an H2 file, served by Jetty at /fhir: {@code java HapiServer PORT FILE}.
 *
 * <p>HAPI's own defaults everywhere: referential integrity, search indexes, caches and reuse of recent searches. What
 * its usual distribution adds and costs time (access log, HTML answers, pretty printing) is left out.
 */
public final class HapiServer {

    public static void main(String[] arguments) throws Exception {
        System.setProperty("bench.database", arguments[1]);
        AnnotationConfigApplicationContext context = new AnnotationConfigApplicationContext(Beans.class);
        Server jetty = new Server(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0])));
        ServletContextHandler handler = new ServletContextHandler();
        handler.addServlet(new ServletHolder(context.getBean(RestfulServer.class)), "/fhir/*");
        jetty.setHandler(handler);
        jetty.setStopAtShutdown(true);
        context.registerShutdownHook();
        jetty.start();
        jetty.join();
    }

    /** What HAPI's modules expect from the application around them. */
    @Configuration
    @EnableTransactionManagement
    @Import({
        JpaR4Config.class,
        HapiJpaConfig.class,
        ThreadPoolFactoryConfig.class,
        JpaBatch2Config.class,
        Batch2JobsConfig.class,
        SubscriptionSubmitterConfig.class,
        SubscriptionProcessorConfig.class,
        SubscriptionChannelConfig.class,
    })
    static class Beans {

        @Bean
        JpaStorageSettings storageSettings() {
            return new JpaStorageSettings();
        }

        @Bean
        PartitionSettings partitionSettings() {
            return new PartitionSettings();
        }

        @Bean
        SubscriptionSettings subscriptionSettings() {
            return new SubscriptionSettings();
        }

        @Bean
        IEmailSender emailSender() {
            return mail -> {
                throw new UnsupportedOperationException("no mail from a benchmark");
            };
        }

        @Bean
        DataSource dataSource() {
            HikariDataSource pool = new HikariDataSource();
            pool.setJdbcUrl("jdbc:h2:file:" + System.getProperty("bench.database"));
            pool.setUsername("sa");
            pool.setMaximumPoolSize(10);
            return pool;
        }

        @Bean
        @Primary
        LocalContainerEntityManagerFactoryBean entityManagerFactory(
                ConfigurableListableBeanFactory beans, FhirContext fhir, JpaStorageSettings settings, DataSource pool) {
            LocalContainerEntityManagerFactoryBean factory =
                    HapiEntityManagerFactoryUtil.newEntityManagerFactory(beans, fhir, settings);
            factory.setPersistenceUnitName("HAPI_PU");
            factory.setDataSource(pool);
            factory.setJpaPropertyMap(Map.of(
                    "hibernate.dialect", HapiFhirH2Dialect.class.getName(),
                    "hibernate.hbm2ddl.auto", "update",
                    "hibernate.jdbc.batch_size", "20",
                    "hibernate.search.enabled", "false"));
            return factory;
        }

        @Bean
        @Primary
        JpaTransactionManager transactionManager(EntityManagerFactory factory) {
            return new JpaTransactionManager(factory);
        }

        @Bean
        RestfulServer restfulServer(
                IFhirSystemDao<?, ?> dao,
                IJpaSystemProvider system,
                ResourceProviderFactory resources,
                JpaStorageSettings settings,
                ISearchParamRegistry parameters,
                IValidationSupport support,
                DatabaseBackedPagingProvider pages) {
            RestfulServer server = new RestfulServer(dao.getContext());
            server.registerProviders(resources.createProviders());
            server.registerProvider(system);
            server.setServerConformanceProvider(
                    new JpaCapabilityStatementProvider(server, dao, settings, parameters, support));
            server.setPagingProvider(pages);
            return server;
        }
    }
}
